/* SPDX-License-Identifier: MIT */
#include "devices/chips/mc146818.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"

enum { PORT_INDEX = 0, PORT_DATA = 1 };
enum { INDEX_MASK = 0x7f }; /* bit 7 disables NMIs, of which there are none */

/* Motorola MC146818A: the clock's registers. The century is a PC's addition. */
enum {
    REG_SECONDS = 0x0,
    REG_MINUTES = 0x2,
    REG_HOURS = 0x4,
    REG_WEEKDAY = 0x6, /* Sunday is 1 */
    REG_DAY = 0x7,
    REG_MONTH = 0x8,
    REG_YEAR = 0x9,
    REG_A = 0xa,
    REG_B = 0xb,
    REG_C = 0xc, /* pending interrupts: none */
    REG_D = 0xd,
    REG_CENTURY = MC146818_CENTURY,
    REGISTERS = 128
};

enum { A_UPDATING = 0x80, A_DEFAULT = 0x26 /* 32768 Hz, 1024 interrupts a second */ };
enum { B_24_HOURS = 0x02, B_BINARY = 0x04, B_SET = 0x80 /* stops the clock, for setting it */ };
enum { D_VALID = 0x80 };
enum { HOURS_PM = 0x80 };

/* From this time of each second on the clock says that an update is near (A_UPDATING). */
#define UPDATE_NEAR_NS (1000000000 - 244000)

struct mc146818 {
    struct chip chip;
    pthread_mutex_t mutex; /* protects all below */
    uint64_t ahead;        /* of the host's clock, in seconds, modulo 2^64 */
    uint8_t index;         /* the register at the data port */
    uint8_t registers[REGISTERS];
};

static uint8_t mc146818_encode(const struct mc146818 *rtc, int value)
{
    return (uint8_t)(rtc->registers[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static int mc146818_decode(const struct mc146818 *rtc, uint8_t value)
{
    return rtc->registers[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 0xf);
}

static uint8_t mc146818_encode_hours(const struct mc146818 *rtc, int hours)
{
    if (rtc->registers[REG_B] & B_24_HOURS)
        return mc146818_encode(rtc, hours);
    return mc146818_encode(rtc, (hours + 11) % 12 + 1) | (hours >= 12 ? HOURS_PM : 0);
}

static int mc146818_decode_hours(const struct mc146818 *rtc, uint8_t value)
{
    if (rtc->registers[REG_B] & B_24_HOURS)
        return mc146818_decode(rtc, value);
    return mc146818_decode(rtc, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

static struct timespec mc146818_host_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

static bool mc146818_is_time(unsigned reg)
{
    return (reg <= REG_YEAR && reg != 1 && reg != 3 && reg != 5) || reg == REG_CENTURY;
}

/*
 * The calendar. Not gmtime_r() and timegm(): they open files of time zones when first called, which
 * the sandbox denies.
 */

/* Days from 1 January of the year 0 to the first of `month`, from 1; a month above 12 is a later
 * year's. */
static int64_t mc146818_days_before(int64_t year, int month)
{
    static const uint16_t days[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    int64_t past; /* leap years before, and this one's day in February if it is over */

    year += (month - 1) / 12;
    month = (month - 1) % 12;
    past = month < 2 ? year - 1 : year;
    return 365 * year + (year > 0 ? past / 4 - past / 100 + past / 400 + 1 : month >= 2) +
           days[month];
}

#define SECONDS_A_DAY   86400
#define DAYS_TO_1970    719528
#define DAYS_OF_10000_Y 3652425

/* Brings the registers up to date, unless the guest has stopped the clock. */
static void mc146818_update(struct mc146818 *rtc)
{
    uint64_t now = (uint64_t)mc146818_host_time().tv_sec + rtc->ahead;
    int64_t days = (int64_t)((now / SECONDS_A_DAY + DAYS_TO_1970) % DAYS_OF_10000_Y);
    int second = (int)(now % SECONDS_A_DAY), month = 1;
    int64_t year = days / 366;
    uint8_t *registers = rtc->registers;

    if (registers[REG_B] & B_SET)
        return;
    while (mc146818_days_before(year + 1, 1) <= days)
        year++;
    while (mc146818_days_before(year, month + 1) <= days)
        month++;
    registers[REG_SECONDS] = mc146818_encode(rtc, second % 60);
    registers[REG_MINUTES] = mc146818_encode(rtc, second / 60 % 60);
    registers[REG_HOURS] = mc146818_encode_hours(rtc, second / 3600);
    registers[REG_WEEKDAY] = mc146818_encode(rtc, (int)((days + 6) % 7) + 1);
    registers[REG_DAY] = mc146818_encode(rtc, (int)(days - mc146818_days_before(year, month)) + 1);
    registers[REG_MONTH] = mc146818_encode(rtc, month);
    registers[REG_YEAR] = mc146818_encode(rtc, (int)(year % 100));
    registers[REG_CENTURY] = mc146818_encode(rtc, (int)(year / 100));
}

/* Lets the clock go on from what its registers say, unless the guest has stopped it. */
static void mc146818_adjust(struct mc146818 *rtc)
{
    const uint8_t *registers = rtc->registers;
    int month = mc146818_decode(rtc, registers[REG_MONTH]);
    int64_t year = mc146818_decode(rtc, registers[REG_CENTURY]) * 100 +
                   mc146818_decode(rtc, registers[REG_YEAR]);
    int64_t days = mc146818_days_before(year, month ? month : 1) +
                   mc146818_decode(rtc, registers[REG_DAY]) - 1 - DAYS_TO_1970;
    int64_t seconds = days * SECONDS_A_DAY +
                      mc146818_decode_hours(rtc, registers[REG_HOURS]) * 3600 +
                      mc146818_decode(rtc, registers[REG_MINUTES]) * 60 +
                      mc146818_decode(rtc, registers[REG_SECONDS]);

    if (!(registers[REG_B] & B_SET))
        rtc->ahead = (uint64_t)seconds - (uint64_t)mc146818_host_time().tv_sec;
}

static uint8_t mc146818_read_register(struct mc146818 *rtc)
{
    unsigned reg = rtc->index;

    if (mc146818_is_time(reg))
        mc146818_update(rtc);
    switch (reg) {
    case REG_A:
        return rtc->registers[REG_A] |
               (!(rtc->registers[REG_B] & B_SET) && mc146818_host_time().tv_nsec >= UPDATE_NEAR_NS
                    ? A_UPDATING
                    : 0);
    case REG_C:
        return 0;
    case REG_D:
        return D_VALID;
    default:
        return rtc->registers[reg];
    }
}

static void mc146818_write_register(struct mc146818 *rtc, uint8_t value)
{
    unsigned reg = rtc->index;

    mc146818_update(rtc); /* by the mode before this write */
    if (reg == REG_A)
        value &= ~A_UPDATING;
    if (reg == REG_B) {
        bool starts = rtc->registers[REG_B] & B_SET && !(value & B_SET);

        rtc->registers[REG_B] = value;
        if (starts)
            mc146818_adjust(rtc);
        return;
    }
    rtc->registers[reg] = value;
    if (mc146818_is_time(reg))
        mc146818_adjust(rtc);
}

static uint8_t mc146818_read(struct chip *chip, unsigned reg)
{
    struct mc146818 *rtc = container_of(chip, struct mc146818, chip);

    LOCK_SCOPE(&rtc->mutex);
    return reg == PORT_DATA ? mc146818_read_register(rtc) : 0xff; /* the index is write-only */
}

static void mc146818_write(struct chip *chip, unsigned reg, uint8_t value)
{
    struct mc146818 *rtc = container_of(chip, struct mc146818, chip);

    LOCK_SCOPE(&rtc->mutex);
    if (reg == PORT_INDEX)
        rtc->index = value & INDEX_MASK;
    else
        mc146818_write_register(rtc, value);
}

static void mc146818_reset(struct chip *chip)
{
    struct mc146818 *rtc = container_of(chip, struct mc146818, chip);

    LOCK_SCOPE(&rtc->mutex);
    memset(rtc->registers, 0, sizeof(rtc->registers));
    rtc->registers[REG_A] = A_DEFAULT;
    rtc->registers[REG_B] = B_24_HOURS;
    rtc->ahead = 0;
    rtc->index = 0;
}

/*
 * Saved relative to the host's clock: the guest's clock goes on while nothing runs. The registers
 * of the time are saved as they were last accessed, and matter only while the clock is stopped.
 */
static void mc146818_state(struct chip *chip, struct state *s)
{
    struct mc146818 *rtc = container_of(chip, struct mc146818, chip);

    LOCK_SCOPE(&rtc->mutex);
    state_field(s, rtc, ahead);
    state_field(s, rtc, index);
    if (rtc->index > INDEX_MASK) {
        state_fail(s, "index: %#x is no register", rtc->index);
        rtc->index = 0;
    }
    state_bytes(s, "registers", rtc->registers, sizeof(rtc->registers));
}

static void mc146818_finish(struct chip *chip)
{
    pthread_mutex_destroy(&container_of(chip, struct mc146818, chip)->mutex);
}

static const struct chip_ops mc146818_ops = {
    .read = mc146818_read,
    .write = mc146818_write,
    .reset = mc146818_reset,
    .finish = mc146818_finish,
};

struct chip *mc146818_create(const char *name, uint64_t base)
{
    struct mc146818 *rtc =
        chip_create(sizeof(*rtc), &mc146818_ops, mc146818_state, name, base, MC146818_SIZE);

    if (!rtc)
        return NULL;
    pthread_mutex_init(&rtc->mutex, NULL);
    mc146818_reset(&rtc->chip);
    return &rtc->chip;
}
