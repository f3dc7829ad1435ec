/* SPDX-License-Identifier: MIT */
#include "devices/chips/i8254.h"

#include <pthread.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/clock.h"
#include "vmm/core/state.h"

/* Intel 8254 data sheet. */
enum { COUNTERS = 3, REG_CONTROL = 3, REG_PORT_B = 0x21 };
enum { ACCESS_LATCH = 0, ACCESS_LOW = 1, ACCESS_HIGH = 2, ACCESS_BOTH = 3 };
enum {
    MODE_TERMINAL = 0,
    MODE_ONE_SHOT = 1,
    MODE_RATE = 2,
    MODE_SQUARE = 3,
    MODE_STROBE = 4,
    MODE_HARDWARE_STROBE = 5
};
enum { READ_BACK = 3, READ_BACK_NO_COUNT = 0x20, READ_BACK_NO_STATUS = 0x10 };
enum { B_GATE = 1, B_SPEAKER = 2, B_OUTPUT = 0x20 };

#define NS_PER_S 1000000000u

struct counter {
    uint64_t start_ns; /* when it began to count down from `reload` */
    uint64_t elapsed;  /* loaded: ticks since then, until the chip resumes */
    uint32_t reload;   /* 1 to 65536 */
    uint16_t latched;
    uint8_t access, mode;
    uint8_t low;          /* the low byte written, of ACCESS_BOTH */
    uint8_t status;       /* latched */
    uint8_t latched_left; /* bytes of `latched` to be read */
    bool low_written;     /* the high byte is next */
    bool low_read;
    bool status_latched;
};

struct i8254 {
    struct chip chip;
    pthread_mutex_t mutex; /* protects all below */
    struct counter counters[COUNTERS];
    uint8_t port_b; /* B_GATE of counter 2 and B_SPEAKER */
    bool loaded;    /* counters stand still until resumed */
};

static const struct counter i8254_power_on = { .reload = 0x10000,
                                               .access = ACCESS_BOTH,
                                               .mode = MODE_SQUARE };

static uint64_t i8254_elapsed(const struct i8254 *pit, const struct counter *c)
{
    uint64_t ns = clock_now_ns() - c->start_ns;

    if (pit->loaded)
        return c->elapsed;
    return ns / NS_PER_S * I8254_HZ + ns % NS_PER_S * I8254_HZ / NS_PER_S;
}

static uint16_t i8254_count(const struct i8254 *pit, const struct counter *c)
{
    uint64_t elapsed = i8254_elapsed(pit, c);

    if (c->mode == MODE_RATE)
        return (uint16_t)(c->reload - elapsed % c->reload);
    if (c->mode == MODE_SQUARE)
        return (uint16_t)(c->reload - 2 * elapsed % c->reload);
    return (uint16_t)(c->reload - elapsed);
}

static bool i8254_output(const struct i8254 *pit, const struct counter *c)
{
    uint64_t elapsed = i8254_elapsed(pit, c);

    switch (c->mode) {
    case MODE_TERMINAL:
    case MODE_ONE_SHOT:
        return elapsed >= c->reload;
    case MODE_RATE:
        return elapsed % c->reload != c->reload - 1;
    case MODE_SQUARE:
        return elapsed % c->reload < (c->reload + 1) / 2;
    default:
        return elapsed != c->reload;
    }
}

static void i8254_start(struct counter *c, uint32_t count)
{
    c->reload = count ? count : 0x10000;
    c->start_ns = clock_now_ns();
}

static void i8254_latch(const struct i8254 *pit, struct counter *c)
{
    if (c->latched_left > 0)
        return;
    c->latched = i8254_count(pit, c);
    c->latched_left = c->access == ACCESS_BOTH ? 2 : 1;
    if (c->access == ACCESS_HIGH)
        c->latched >>= 8;
}

static void i8254_read_back(struct i8254 *pit, uint8_t command)
{
    for (unsigned i = 0; i < COUNTERS; i++) {
        struct counter *c = &pit->counters[i];

        if (!(command & 2u << i))
            continue;
        if (!(command & READ_BACK_NO_COUNT))
            i8254_latch(pit, c);
        if (!(command & READ_BACK_NO_STATUS)) {
            c->status =
                (uint8_t)((i8254_output(pit, c) ? 0x80 : 0) | c->access << 4 | c->mode << 1);
            c->status_latched = true;
        }
    }
}

/* Modes 6 and 7 are 2 and 3; counting in BCD is not supported. */
static void i8254_control(struct i8254 *pit, uint8_t command)
{
    unsigned mode = command >> 1 & 7, index = command >> 6;
    struct counter *c;

    if (index == READ_BACK) {
        i8254_read_back(pit, command);
        return;
    }
    c = &pit->counters[index];
    if ((command >> 4 & 3) == ACCESS_LATCH) {
        i8254_latch(pit, c);
        return;
    }
    *c = (struct counter){ .access = command >> 4 & 3,
                           .mode = (uint8_t)(mode > MODE_HARDWARE_STROBE ? mode - 4 : mode) };
    i8254_start(c, 0);
}

static void i8254_write_count(struct counter *c, uint8_t value)
{
    if (c->access == ACCESS_BOTH && !c->low_written) {
        c->low = value;
        c->low_written = true;
        return;
    }
    c->low_written = false;
    if (c->access == ACCESS_LOW)
        i8254_start(c, value);
    else
        i8254_start(c, (uint32_t)value << 8 | (c->access == ACCESS_BOTH ? c->low : 0));
}

static uint8_t i8254_read_count(const struct i8254 *pit, struct counter *c)
{
    uint16_t count;
    bool high = c->access == ACCESS_HIGH;

    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->latched_left > 0) {
        uint8_t value = (uint8_t)c->latched;

        c->latched >>= 8;
        c->latched_left--;
        return value;
    }
    count = i8254_count(pit, c);
    if (c->access == ACCESS_BOTH) {
        high = c->low_read;
        c->low_read = !c->low_read;
    }
    return (uint8_t)(high ? count >> 8 : count);
}

/* A rising gate restarts the count, except in the two modes where the gate only enables it. */
static void i8254_write_port_b(struct i8254 *pit, uint8_t value)
{
    struct counter *c = &pit->counters[2];

    if (value & ~pit->port_b & B_GATE && c->mode != MODE_TERMINAL && c->mode != MODE_STROBE)
        i8254_start(c, c->reload & 0xffff);
    pit->port_b = value & (B_GATE | B_SPEAKER);
}

static uint8_t i8254_read(struct chip *chip, unsigned reg)
{
    struct i8254 *pit = container_of(chip, struct i8254, chip);

    LOCK_SCOPE(&pit->mutex);
    if (reg < COUNTERS)
        return i8254_read_count(pit, &pit->counters[reg]);
    if (reg == REG_PORT_B)
        return pit->port_b | (i8254_output(pit, &pit->counters[2]) ? B_OUTPUT : 0);
    return 0xff;
}

static void i8254_write(struct chip *chip, unsigned reg, uint8_t value)
{
    struct i8254 *pit = container_of(chip, struct i8254, chip);

    LOCK_SCOPE(&pit->mutex);
    if (reg < COUNTERS)
        i8254_write_count(&pit->counters[reg], value);
    else if (reg == REG_CONTROL)
        i8254_control(pit, value);
    else if (reg == REG_PORT_B)
        i8254_write_port_b(pit, value);
}

static void i8254_reset(struct chip *chip)
{
    struct i8254 *pit = container_of(chip, struct i8254, chip);

    LOCK_SCOPE(&pit->mutex);
    pit->port_b = 0;
    pit->loaded = false;
    for (unsigned i = 0; i < COUNTERS; i++) {
        pit->counters[i] = i8254_power_on;
        i8254_start(&pit->counters[i], 0);
    }
}

/* Loaded counters go on from where they were saved, as the vCPUs' TSC does. */
static void i8254_resume(struct chip *chip)
{
    struct i8254 *pit = container_of(chip, struct i8254, chip);

    LOCK_SCOPE(&pit->mutex);
    for (unsigned i = 0; pit->loaded && i < COUNTERS; i++) {
        struct counter *c = &pit->counters[i];

        c->start_ns = clock_now_ns() - c->elapsed / I8254_HZ * NS_PER_S -
                      (c->elapsed % I8254_HZ * NS_PER_S + I8254_HZ - 1) / I8254_HZ;
    }
    pit->loaded = false;
}

static void i8254_counter_state(struct i8254 *pit, struct counter *c, struct state *s)
{
    c->elapsed = i8254_elapsed(pit, c);
    state_field(s, c, elapsed);
    state_field(s, c, reload);
    state_field(s, c, latched);
    state_field(s, c, access);
    state_field(s, c, mode);
    state_field(s, c, low);
    state_field(s, c, status);
    state_field(s, c, latched_left);
    state_field(s, c, low_written);
    state_field(s, c, low_read);
    state_field(s, c, status_latched);
    if (c->reload >= 1 && c->reload <= 0x10000 && c->access >= ACCESS_LOW &&
        c->access <= ACCESS_BOTH && c->mode <= MODE_HARDWARE_STROBE && c->latched_left <= 2)
        return;
    state_fail(s, "a counter has an undefined mode or count");
    *c = i8254_power_on;
}

static void i8254_state(struct chip *chip, struct state *s)
{
    struct i8254 *pit = container_of(chip, struct i8254, chip);

    LOCK_SCOPE(&pit->mutex);
    for (unsigned i = 0; i < COUNTERS; i++)
        i8254_counter_state(pit, &pit->counters[i], s);
    state_field(s, pit, port_b);
    if (pit->port_b & ~(B_GATE | B_SPEAKER))
        state_fail(s, "port_b: %#x has undefined bits", pit->port_b);
    pit->port_b &= B_GATE | B_SPEAKER;
    pit->loaded |= s->loading;
}

static void i8254_finish(struct chip *chip)
{
    pthread_mutex_destroy(&container_of(chip, struct i8254, chip)->mutex);
}

static const struct chip_ops i8254_ops = {
    .read = i8254_read,
    .write = i8254_write,
    .reset = i8254_reset,
    .resume = i8254_resume,
    .finish = i8254_finish,
};

struct chip *i8254_create(const char *name, uint64_t base)
{
    struct i8254 *pit = chip_create(sizeof(*pit), &i8254_ops, i8254_state, name, base, I8254_SIZE);

    if (!pit)
        return NULL;
    pthread_mutex_init(&pit->mutex, NULL);
    i8254_reset(&pit->chip);
    return &pit->chip;
}
