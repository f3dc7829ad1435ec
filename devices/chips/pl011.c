/* SPDX-License-Identifier: MIT */
#include "devices/chips/pl011.h"

#include <string.h>

#include "devices/chips/uart.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"

#define PL011_PART 0x00341011 /* revision 3: the FIFO has 32 entries */
#define FIFO_SIZE  UART_FIFO_SIZE

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
       REGS_STORED = 0x4c, /* end of the registers that can be read back */
};

enum { FLAG_CTS = 1, FLAG_DSR = 2, FLAG_DCD = 4 };
enum { FLAG_NOTHING_RECEIVED = 0x10, FLAG_RECEIVE_FULL = 0x40, FLAG_TRANSMIT_EMPTY = 0x80 };
enum { LINE_FIFO = 0x10 };
enum { CONTROL_ENABLE = 1, CONTROL_RECEIVE = 0x200, CONTROL_RTS = 0x800 };
enum { IRQ_RECEIVE = 0x10, IRQ_TRANSMIT = 0x20, IRQ_TIME_OUT = 0x40, IRQ_ALL = 0x7ff };

#define CONTROL_ACCEPTS_INPUT (CONTROL_ENABLE | CONTROL_RECEIVE | CONTROL_RTS)

struct pl011 {
    struct uart uart;
    uint32_t regs[REGS_STORED / 4]; /* protected by uart.mutex */
};

static struct pl011 *pl011_of(struct chip *chip)
{
    return container_of(chip, struct pl011, uart.chip);
}

static unsigned pl011_capacity(const struct uart *uart)
{
    const struct pl011 *pl011 = container_of(uart, const struct pl011, uart);

    return pl011->regs[REG_LINE / 4] & LINE_FIFO ? FIFO_SIZE : 1;
}

static bool pl011_accepts_input(const struct uart *uart)
{
    const struct pl011 *pl011 = container_of(uart, const struct pl011, uart);

    return (pl011->regs[REG_CONTROL / 4] & CONTROL_ACCEPTS_INPUT) == CONTROL_ACCEPTS_INPUT;
}

/* Number of received bytes that raises an interrupt: the FIFO level selected by the guest. */
static unsigned pl011_trigger(const struct pl011 *pl011)
{
    static const uint8_t levels[8] = { 4, 8, 16, 24, 28, 28, 28, 28 };

    return pl011_capacity(&pl011->uart) == 1 ? 1 : levels[pl011->regs[REG_LEVELS / 4] >> 3 & 7];
}

/* The receive timeout has no delay: it is pending while there are bytes in the FIFO. */
static uint32_t pl011_raw_interrupts(const struct pl011 *pl011)
{
    const struct uart *uart = &pl011->uart;

    return (uart->count >= pl011_trigger(pl011) ? IRQ_RECEIVE : 0) |
           (uart->count > 0 ? IRQ_TIME_OUT : 0) | (uart->transmitted ? IRQ_TRANSMIT : 0);
}

static uint32_t pl011_pending(const struct pl011 *pl011)
{
    return pl011_raw_interrupts(pl011) & pl011->regs[REG_MASK / 4];
}

static bool pl011_irq_level(const struct uart *uart)
{
    return pl011_pending(container_of(uart, const struct pl011, uart));
}

static uint32_t pl011_flags(const struct uart *uart)
{
    return FLAG_CTS | FLAG_DSR | FLAG_DCD | FLAG_TRANSMIT_EMPTY |
           (uart->count == 0 ? FLAG_NOTHING_RECEIVED : 0) |
           (uart->count >= pl011_capacity(uart) ? FLAG_RECEIVE_FULL : 0);
}

static uint32_t pl011_read_register(struct pl011 *pl011, unsigned reg)
{
    switch (reg) {
    case REG_DATA:
        return uart_receive(&pl011->uart);
    case REG_FLAGS:
        return pl011_flags(&pl011->uart);
    case REG_RAW:
        return pl011_raw_interrupts(pl011);
    case REG_PENDING:
        return pl011_pending(pl011);
    }
    if (reg >= PRIMECELL_ID)
        return primecell_id(PL011_PART, reg);
    return reg < REGS_STORED ? pl011->regs[reg / 4] : 0;
}

static uint32_t pl011_read(struct chip *chip, unsigned reg)
{
    struct pl011 *pl011 = pl011_of(chip);
    uint32_t value;

    uart_lock(&pl011->uart);
    value = pl011_read_register(pl011, reg);
    uart_unlock(&pl011->uart);
    return value;
}

static void pl011_write_register(struct pl011 *pl011, unsigned reg, uint32_t value)
{
    switch (reg) {
    case REG_LINE:
        if ((value ^ pl011->regs[REG_LINE / 4]) & LINE_FIFO)
            pl011->uart.count = 0; /* enabling or disabling the FIFO empties it */
        pl011->regs[REG_LINE / 4] = value & 0xff;
        break;
    case REG_MASK:
        pl011->regs[REG_MASK / 4] = value & IRQ_ALL;
        break;
    case REG_CLEAR:
        if (value & IRQ_TRANSMIT)
            pl011->uart.transmitted = false;
        break;
    case REG_LOW_POWER:
    case REG_BAUD_INTEGER:
    case REG_BAUD_FRACTION:
    case REG_CONTROL:
    case REG_LEVELS:
    case REG_DMA:
        pl011->regs[reg / 4] = value & 0xffff;
        break;
    }
}

static void pl011_write(struct chip *chip, unsigned reg, uint32_t value)
{
    struct pl011 *pl011 = pl011_of(chip);

    if (reg == REG_DATA) {
        uart_transmit(&pl011->uart, (uint8_t)value);
        return;
    }
    uart_lock(&pl011->uart);
    pl011_write_register(pl011, reg, value);
    uart_unlock(&pl011->uart);
}

static void pl011_power_on(struct pl011 *pl011)
{
    memset(pl011->regs, 0, sizeof(pl011->regs));
    pl011->regs[REG_CONTROL / 4] = 0x300; /* receive and transmit enabled, the UART not */
    pl011->regs[REG_LEVELS / 4] = 0x12;   /* half full, half empty */
    pl011->uart.transmitted = false;
    pl011->uart.count = 0;
}

static void pl011_reset(struct chip *chip)
{
    struct pl011 *pl011 = pl011_of(chip);

    uart_lock(&pl011->uart);
    pl011_power_on(pl011);
    uart_unlock(&pl011->uart);
}

static void pl011_state(struct chip *chip, struct state *s)
{
    struct pl011 *pl011 = pl011_of(chip);
    uint32_t *regs = pl011->regs;

    LOCK_SCOPE(&pl011->uart.mutex);
    state_u32(s, "low_power", &regs[REG_LOW_POWER / 4]);
    state_u32(s, "baud_integer", &regs[REG_BAUD_INTEGER / 4]);
    state_u32(s, "baud_fraction", &regs[REG_BAUD_FRACTION / 4]);
    state_u32(s, "line", &regs[REG_LINE / 4]);
    state_u32(s, "control", &regs[REG_CONTROL / 4]);
    state_u32(s, "levels", &regs[REG_LEVELS / 4]);
    state_u32(s, "mask", &regs[REG_MASK / 4]);
    state_u32(s, "dma", &regs[REG_DMA / 4]);
    uart_state(&pl011->uart, s);
}

static const struct chip_ops pl011_chip_ops = {
    .read32 = pl011_read,
    .write32 = pl011_write,
    .reset = pl011_reset,
    .resume = uart_resume,
    .finish = uart_finish,
};

static const struct uart_ops pl011_uart_ops = {
    .capacity = pl011_capacity,
    .accepts_input = pl011_accepts_input,
    .irq_level = pl011_irq_level,
};

struct chip *pl011_create(const char *name, uint64_t base, const struct irq_line *irq,
                          struct terminal *terminal)
{
    struct pl011 *pl011 =
        chip_create(sizeof(*pl011), &pl011_chip_ops, pl011_state, name, base, PL011_SIZE);

    if (!pl011)
        return NULL;
    pl011_power_on(pl011);
    uart_init(&pl011->uart, &pl011_uart_ops, irq, terminal);
    return &pl011->uart.chip;
}
