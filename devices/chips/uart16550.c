/* SPDX-License-Identifier: MIT */
#include "devices/chips/uart16550.h"

#include "devices/chips/uart.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"

/* Registers, two of which share an offset. */
enum {
    REG_DATA = 0, /* receive and transmit; divisor low while LCR_DLAB */
    REG_IER = 1,  /* divisor high while LCR_DLAB */
    REG_IIR = 2,  /* read */
    REG_FCR = 2,  /* write */
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCR = 7,
};

enum { IER_RECEIVE = 1, IER_TRANSMIT = 2, IER_LINE = 4, IER_MODEM = 8, IER_MASK = 0x0f };
enum { /* most urgent first */
       IIR_LINE = 0x06,
       IIR_RECEIVE = 0x04,
       IIR_TIME_OUT = 0x0c,
       IIR_TRANSMIT = 0x02,
       IIR_MODEM = 0x00,
       IIR_NONE = 0x01,
       IIR_FIFO = 0xc0,
};
enum { FCR_ENABLE = 1, FCR_CLEAR_RECEIVE = 2, FCR_TRIGGER_SHIFT = 6 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10, MCR_MASK = 0x1f };
enum { LSR_READY = 1, LSR_OVERRUN = 2, LSR_EMPTY = 0x60 /* holding and shift register */ };
enum {
    MSR_CHANGES = 0x0f,
    MSR_RING_ENDED = 4,
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RING = 0x40,
    MSR_DCD = 0x80
};

#define FIFO_SIZE 16

/* All fields but `uart` are protected by uart.mutex. */
struct uart16550 {
    struct uart uart;
    uint8_t ier, lcr, mcr, scr;
    uint8_t divisor[2];
    uint8_t modem_changes; /* low half of MSR */
    uint8_t trigger;       /* bytes in the FIFO that raise an interrupt */
    bool fifo_enabled;
    bool overrun;
};

static struct uart16550 *uart16550_of(struct chip *chip)
{
    return container_of(chip, struct uart16550, uart.chip);
}

static unsigned uart16550_capacity(const struct uart *uart)
{
    return container_of(uart, const struct uart16550, uart)->fifo_enabled ? FIFO_SIZE : 1;
}

static bool uart16550_accepts_input(const struct uart *uart)
{
    uint8_t mcr = container_of(uart, const struct uart16550, uart)->mcr;

    return !(mcr & MCR_LOOP) && mcr & MCR_RTS;
}

/* The enabled pending interrupt of highest priority. The receive timeout has no delay. */
static uint8_t uart16550_interrupt(const struct uart16550 *port)
{
    if (port->ier & IER_LINE && port->overrun)
        return IIR_LINE;
    if (port->ier & IER_RECEIVE && port->uart.count >= port->trigger)
        return IIR_RECEIVE;
    if (port->ier & IER_RECEIVE && port->uart.count > 0)
        return IIR_TIME_OUT;
    if (port->ier & IER_TRANSMIT && port->uart.transmitted)
        return IIR_TRANSMIT;
    if (port->ier & IER_MODEM && port->modem_changes)
        return IIR_MODEM;
    return IIR_NONE;
}

static bool uart16550_irq_level(const struct uart *uart)
{
    return uart16550_interrupt(container_of(uart, const struct uart16550, uart)) != IIR_NONE;
}

static uint8_t uart16550_read_iir(struct uart16550 *port)
{
    uint8_t interrupt = uart16550_interrupt(port);

    if (interrupt == IIR_TRANSMIT)
        port->uart.transmitted = false;
    return interrupt | (port->fifo_enabled ? IIR_FIFO : 0);
}

static uint8_t uart16550_read_lsr(struct uart16550 *port)
{
    uint8_t status = LSR_EMPTY;

    if (port->uart.count > 0)
        status |= LSR_READY;
    if (port->overrun)
        status |= LSR_OVERRUN;
    port->overrun = false;
    return status;
}

/* The modem lines: in loopback mode the port's own outputs, else a peer that is always ready. */
static uint8_t uart16550_modem_lines(const struct uart16550 *port)
{
    if (!(port->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (port->mcr & MCR_RTS ? MSR_CTS : 0) | (port->mcr & MCR_DTR ? MSR_DSR : 0) |
           (port->mcr & MCR_OUT1 ? MSR_RING : 0) | (port->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t uart16550_read_msr(struct uart16550 *port)
{
    uint8_t status = uart16550_modem_lines(port) | port->modem_changes;

    port->modem_changes = 0;
    return status;
}

static uint8_t uart16550_read_register(struct uart16550 *port, unsigned reg)
{
    switch (reg) {
    case REG_DATA:
        return port->lcr & LCR_DLAB ? port->divisor[0] : uart_receive(&port->uart);
    case REG_IER:
        return port->lcr & LCR_DLAB ? port->divisor[1] : port->ier;
    case REG_IIR:
        return uart16550_read_iir(port);
    case REG_LCR:
        return port->lcr;
    case REG_MCR:
        return port->mcr;
    case REG_LSR:
        return uart16550_read_lsr(port);
    case REG_MSR:
        return uart16550_read_msr(port);
    default:
        return port->scr;
    }
}

static uint8_t uart16550_read(struct chip *chip, unsigned reg)
{
    struct uart16550 *port = uart16550_of(chip);
    uint8_t value;

    uart_lock(&port->uart);
    value = uart16550_read_register(port, reg);
    uart_unlock(&port->uart);
    return value;
}

static void uart16550_loop_back(struct uart16550 *port, uint8_t byte)
{
    if (port->uart.count < uart16550_capacity(&port->uart))
        port->uart.fifo[port->uart.count++] = byte;
    else
        port->overrun = true;
    port->uart.transmitted = true;
}

/* Enabling the interrupt while the transmitter is empty raises it; 8250 drivers rely on that. */
static void uart16550_write_ier(struct uart16550 *port, uint8_t value)
{
    if (value & ~port->ier & IER_TRANSMIT)
        port->uart.transmitted = true;
    port->ier = value & IER_MASK;
}

/* Other bits need FCR_ENABLE to have an effect. Enabling or disabling the FIFO empties it. */
static void uart16550_write_fcr(struct uart16550 *port, uint8_t value)
{
    static const uint8_t triggers[] = { 1, 4, 8, 14 };
    bool enable = value & FCR_ENABLE;

    if (enable != port->fifo_enabled || (enable && value & FCR_CLEAR_RECEIVE))
        port->uart.count = 0;
    port->fifo_enabled = enable;
    port->trigger = enable ? triggers[value >> FCR_TRIGGER_SHIFT] : 1;
}

static void uart16550_write_mcr(struct uart16550 *port, uint8_t value)
{
    uint8_t before = uart16550_modem_lines(port);
    uint8_t changes;

    port->mcr = value & MCR_MASK;
    changes = (before ^ uart16550_modem_lines(port)) >> 4;
    if (!(before & MSR_RING))
        changes &= ~MSR_RING_ENDED;
    port->modem_changes |= changes;
}

static void uart16550_write_register(struct uart16550 *port, unsigned reg, uint8_t value)
{
    switch (reg) {
    case REG_DATA:
        if (port->lcr & LCR_DLAB)
            port->divisor[0] = value;
        else
            uart16550_loop_back(port, value);
        break;
    case REG_IER:
        if (port->lcr & LCR_DLAB)
            port->divisor[1] = value;
        else
            uart16550_write_ier(port, value);
        break;
    case REG_FCR:
        uart16550_write_fcr(port, value);
        break;
    case REG_LCR:
        port->lcr = value;
        break;
    case REG_MCR:
        uart16550_write_mcr(port, value);
        break;
    case REG_SCR:
        port->scr = value;
        break;
    }
}

static void uart16550_write(struct chip *chip, unsigned reg, uint8_t value)
{
    struct uart16550 *port = uart16550_of(chip);
    bool transmit;

    uart_lock(&port->uart);
    transmit = reg == REG_DATA && !(port->lcr & LCR_DLAB) && !(port->mcr & MCR_LOOP);
    if (!transmit)
        uart16550_write_register(port, reg, value);
    uart_unlock(&port->uart);

    if (transmit)
        uart_transmit(&port->uart, value);
}

static void uart16550_reset(struct chip *chip)
{
    struct uart16550 *port = uart16550_of(chip);

    uart_lock(&port->uart);
    port->ier = port->lcr = port->mcr = port->scr = 0;
    port->divisor[0] = port->divisor[1] = 0;
    port->modem_changes = 0;
    port->trigger = 1;
    port->fifo_enabled = port->overrun = port->uart.transmitted = false;
    port->uart.count = 0;
    uart_unlock(&port->uart);
}

static void uart16550_check_state(const struct uart16550 *port, struct state *s)
{
    if (port->ier & ~IER_MASK || port->mcr & ~MCR_MASK || port->modem_changes & ~MSR_CHANGES)
        state_fail(s, "a register has undefined bits set");
    if (port->trigger < 1 || port->trigger > uart16550_capacity(&port->uart))
        state_fail(s, "trigger: %u bytes", port->trigger);
}

static void uart16550_state(struct chip *chip, struct state *s)
{
    struct uart16550 *port = uart16550_of(chip);

    LOCK_SCOPE(&port->uart.mutex);
    state_field(s, port, ier);
    state_field(s, port, lcr);
    state_field(s, port, mcr);
    state_field(s, port, scr);
    state_bytes(s, "divisor", port->divisor, sizeof(port->divisor));
    state_field(s, port, modem_changes);
    state_field(s, port, trigger);
    state_field(s, port, fifo_enabled);
    state_field(s, port, overrun);
    uart16550_check_state(port, s);
    uart_state(&port->uart, s);
}

static const struct chip_ops uart16550_chip_ops = {
    .read = uart16550_read,
    .write = uart16550_write,
    .reset = uart16550_reset,
    .resume = uart_resume,
    .finish = uart_finish,
};

static const struct uart_ops uart16550_uart_ops = {
    .capacity = uart16550_capacity,
    .accepts_input = uart16550_accepts_input,
    .irq_level = uart16550_irq_level,
};

struct chip *uart16550_create(const char *name, uint64_t base, const struct irq_line *irq,
                              struct terminal *terminal)
{
    struct uart16550 *port = chip_create(sizeof(*port), &uart16550_chip_ops, uart16550_state, name,
                                         base, UART16550_SIZE);

    if (!port)
        return NULL;
    port->trigger = 1;
    uart_init(&port->uart, &uart16550_uart_ops, irq, terminal);
    return &port->uart.chip;
}
