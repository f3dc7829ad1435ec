/* SPDX-License-Identifier: MIT */
#include "devices/chips/pl011.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "devices/console/terminal.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"

#define PL011_PART 0x00341011 /* revision 3: the FIFO has 32 entries */
#define FIFO_SIZE  32

enum { /* Arm DDI 0183, 3.2 */
       REG_DATA = 0x00,
       REG_FLAGS = 0x18,
       REG_LOW_POWER = 0x20,
       REG_BAUD_INTEGER = 0x24,
       REG_BAUD_FRACTION = 0x28,
       REG_LINE = 0x2c,
       REG_CONTROL = 0x30,
       REG_LEVELS = 0x34,
       REG_MASK = 0x38,
       REG_RAW = 0x3c,
       REG_PENDING = 0x40,
       REG_CLEAR = 0x44,
       REG_DMA = 0x48,
       REGS_STORED = 0x4c, /* those that keep what is written lie below */
};

enum { FLAG_CTS = 1, FLAG_DSR = 2, FLAG_DCD = 4 };
enum { FLAG_NOTHING_RECEIVED = 0x10, FLAG_RECEIVE_FULL = 0x40, FLAG_TRANSMIT_EMPTY = 0x80 };
enum { LINE_FIFO = 0x10 };
enum { CONTROL_ENABLE = 1, CONTROL_RECEIVE = 0x200, CONTROL_RTS = 0x800 };
enum { IRQ_RECEIVE = 0x10, IRQ_TRANSMIT = 0x20, IRQ_TIME_OUT = 0x40, IRQ_ALL = 0x7ff };

#define CONTROL_LISTENING (CONTROL_ENABLE | CONTROL_RECEIVE | CONTROL_RTS)

struct pl011 {
    struct chip chip;
    struct irq_line irq;
    struct terminal *terminal;

    pthread_mutex_t mutex; /* of all below; not held while the terminal is called */
    uint32_t regs[REGS_STORED / 4];
    bool transmitted; /* since the guest last cleared that interrupt */
    bool line;        /* level of irq */
    uint8_t fifo[FIFO_SIZE];
    unsigned count;
};

static unsigned pl011_capacity(const struct pl011 *uart)
{
    return uart->regs[REG_LINE / 4] & LINE_FIFO ? FIFO_SIZE : 1;
}

/* How many received bytes are worth an interrupt: the fraction of the FIFO that the guest chose. */
static unsigned pl011_trigger(const struct pl011 *uart)
{
    static const uint8_t levels[8] = { 4, 8, 16, 24, 28, 28, 28, 28 };

    return pl011_capacity(uart) == 1 ? 1 : levels[uart->regs[REG_LEVELS / 4] >> 3 & 7];
}

/* What has been received stays pending until it is read: here a FIFO times out at once. */
static uint32_t pl011_raw_interrupts(const struct pl011 *uart)
{
    return (uart->count >= pl011_trigger(uart) ? IRQ_RECEIVE : 0) |
           (uart->count > 0 ? IRQ_TIME_OUT : 0) | (uart->transmitted ? IRQ_TRANSMIT : 0);
}

static uint32_t pl011_pending(const struct pl011 *uart)
{
    return pl011_raw_interrupts(uart) & uart->regs[REG_MASK / 4];
}

static void pl011_update_line(struct pl011 *uart)
{
    bool line = pl011_pending(uart);

    if (line == uart->line)
        return; /* an ioctl saved */
    uart->line = line;
    uart->chip.line_changes++;
    irq_set(&uart->irq, line);
}

static uint32_t pl011_flags(const struct pl011 *uart)
{
    return FLAG_CTS | FLAG_DSR | FLAG_DCD | FLAG_TRANSMIT_EMPTY |
           (uart->count == 0 ? FLAG_NOTHING_RECEIVED : 0) |
           (uart->count >= pl011_capacity(uart) ? FLAG_RECEIVE_FULL : 0);
}

static uint8_t pl011_read_data(struct pl011 *uart)
{
    uint8_t byte = uart->fifo[0];

    if (uart->count == 0)
        return 0;
    uart->count--;
    memmove(uart->fifo, uart->fifo + 1, uart->count);
    return byte;
}

static uint32_t pl011_read_register(struct pl011 *uart, unsigned reg)
{
    switch (reg) {
    case REG_DATA:
        return pl011_read_data(uart);
    case REG_FLAGS:
        return pl011_flags(uart);
    case REG_RAW:
        return pl011_raw_interrupts(uart);
    case REG_PENDING:
        return pl011_pending(uart);
    }
    if (reg >= PRIMECELL_ID)
        return primecell_id(PL011_PART, reg);
    return reg < REGS_STORED ? uart->regs[reg / 4] : 0;
}

/* How many bytes the line would take from the terminal. Once begun, the FIFO is emptied first. */
static size_t pl011_free(const struct pl011 *uart)
{
    bool listening = (uart->regs[REG_CONTROL / 4] & CONTROL_LISTENING) == CONTROL_LISTENING;

    return listening && uart->count == 0 ? pl011_capacity(uart) : 0;
}

static uint32_t pl011_read(struct chip *chip, unsigned reg)
{
    struct pl011 *uart = container_of(chip, struct pl011, chip);
    size_t before, after;
    uint32_t value;

    pthread_mutex_lock(&uart->mutex);
    before = pl011_free(uart);
    value = pl011_read_register(uart, reg);
    after = pl011_free(uart);
    pl011_update_line(uart);
    pthread_mutex_unlock(&uart->mutex);

    if (before == 0 && after > 0)
        terminal_take_input(uart->terminal);
    return value;
}

static void pl011_write_register(struct pl011 *uart, unsigned reg, uint32_t value)
{
    switch (reg) {
    case REG_LINE:
        if ((value ^ uart->regs[REG_LINE / 4]) & LINE_FIFO)
            uart->count = 0; /* turning the FIFO on or off empties it */
        uart->regs[REG_LINE / 4] = value & 0xff;
        break;
    case REG_MASK:
        uart->regs[REG_MASK / 4] = value & IRQ_ALL;
        break;
    case REG_CLEAR:
        if (value & IRQ_TRANSMIT)
            uart->transmitted = false;
        break;
    case REG_LOW_POWER:
    case REG_BAUD_INTEGER:
    case REG_BAUD_FRACTION:
    case REG_CONTROL:
    case REG_LEVELS:
    case REG_DMA:
        uart->regs[reg / 4] = value & 0xffff;
        break;
    }
}

/* A byte for the terminal, which may make us wait; only then is it sent. */
static void pl011_transmit(struct pl011 *uart, uint8_t byte)
{
    terminal_write(uart->terminal, &byte, 1);
    LOCK_SCOPE(&uart->mutex);
    uart->transmitted = true;
    pl011_update_line(uart);
}

static void pl011_write(struct chip *chip, unsigned reg, uint32_t value)
{
    struct pl011 *uart = container_of(chip, struct pl011, chip);
    size_t before, after;

    if (reg == REG_DATA) {
        pl011_transmit(uart, (uint8_t)value);
        return;
    }
    pthread_mutex_lock(&uart->mutex);
    before = pl011_free(uart);
    pl011_write_register(uart, reg, value);
    after = pl011_free(uart);
    pl011_update_line(uart);
    pthread_mutex_unlock(&uart->mutex);

    if (before == 0 && after > 0)
        terminal_take_input(uart->terminal);
}

static size_t pl011_input(void *owner, const uint8_t *bytes, size_t count)
{
    struct pl011 *uart = owner;

    LOCK_SCOPE(&uart->mutex);
    if (count > pl011_free(uart))
        count = pl011_free(uart);
    memcpy(uart->fifo + uart->count, bytes, count);
    uart->count += (unsigned)count;
    pl011_update_line(uart);
    return count;
}

static void pl011_power_on(struct pl011 *uart)
{
    memset(uart->regs, 0, sizeof(uart->regs));
    uart->regs[REG_CONTROL / 4] = 0x300; /* both directions, but not the chip */
    uart->regs[REG_LEVELS / 4] = 0x12;   /* half full, half empty */
    uart->transmitted = false;
    uart->count = 0;
}

static void pl011_reset(struct chip *chip)
{
    struct pl011 *uart = container_of(chip, struct pl011, chip);

    LOCK_SCOPE(&uart->mutex);
    pl011_power_on(uart);
    pl011_update_line(uart);
}

static void pl011_finish(struct chip *chip)
{
    struct pl011 *uart = container_of(chip, struct pl011, chip);

    terminal_set_client(uart->terminal, NULL);
    pthread_mutex_destroy(&uart->mutex);
}

static const struct chip_ops pl011_ops = {
    .read32 = pl011_read,
    .write32 = pl011_write,
    .reset = pl011_reset,
    .finish = pl011_finish,
};

struct chip *pl011_create(const char *name, uint64_t base, const struct irq_line *irq,
                          struct terminal *terminal)
{
    struct pl011 *uart =
        chip_create(sizeof(*uart), &pl011_ops, chip_no_state, name, base, PL011_SIZE);

    if (!uart)
        return NULL;
    uart->irq = *irq;
    uart->terminal = terminal;
    pl011_power_on(uart);
    pthread_mutex_init(&uart->mutex, NULL);
    terminal_set_client(terminal, &(struct terminal_client){ .input = pl011_input, .owner = uart });
    return &uart->chip;
}
