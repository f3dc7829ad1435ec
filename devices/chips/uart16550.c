/* SPDX-License-Identifier: MIT */
#include "devices/chips/uart16550.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "devices/console/terminal.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"

/* Registers, and what else lies at the same place. */
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
enum { MSR_RING_ENDED = 4, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RING = 0x40, MSR_DCD = 0x80 };

#define FIFO_SIZE 16

struct uart16550 {
    struct chip chip;
    struct irq_line irq;
    struct terminal *terminal;

    pthread_mutex_t mutex; /* of all below; not held while the terminal is called */
    uint8_t ier, lcr, mcr, scr;
    uint8_t divisor[2];
    uint8_t modem_changes; /* low half of MSR */
    uint8_t trigger;       /* bytes in the FIFO that are worth an interrupt */
    bool fifo_enabled;
    bool overrun;
    bool transmitted; /* the holding register ran empty, and the guest does not know */
    bool line;        /* level of irq */
    uint8_t fifo[FIFO_SIZE];
    unsigned count;
};

static unsigned uart_capacity(const struct uart16550 *uart)
{
    return uart->fifo_enabled ? FIFO_SIZE : 1;
}

/* The highest pending interrupt that is enabled. A short FIFO times out at once. */
static uint8_t uart_interrupt(const struct uart16550 *uart)
{
    if (uart->ier & IER_LINE && uart->overrun)
        return IIR_LINE;
    if (uart->ier & IER_RECEIVE && uart->count >= uart->trigger)
        return IIR_RECEIVE;
    if (uart->ier & IER_RECEIVE && uart->count > 0)
        return IIR_TIME_OUT;
    if (uart->ier & IER_TRANSMIT && uart->transmitted)
        return IIR_TRANSMIT;
    if (uart->ier & IER_MODEM && uart->modem_changes)
        return IIR_MODEM;
    return IIR_NONE;
}

static void uart_update_line(struct uart16550 *uart)
{
    bool line = uart_interrupt(uart) != IIR_NONE;

    if (line == uart->line)
        return; /* an ioctl saved */
    uart->line = line;
    uart->chip.line_changes++;
    irq_set(&uart->irq, line);
}

static uint8_t uart_read_data(struct uart16550 *uart)
{
    uint8_t byte = uart->fifo[0];

    if (uart->count == 0)
        return 0;
    uart->count--;
    memmove(uart->fifo, uart->fifo + 1, uart->count);
    return byte;
}

static uint8_t uart_read_iir(struct uart16550 *uart)
{
    uint8_t interrupt = uart_interrupt(uart);

    if (interrupt == IIR_TRANSMIT)
        uart->transmitted = false;
    return interrupt | (uart->fifo_enabled ? IIR_FIFO : 0);
}

static uint8_t uart_read_lsr(struct uart16550 *uart)
{
    uint8_t status = LSR_EMPTY;

    if (uart->count > 0)
        status |= LSR_READY;
    if (uart->overrun)
        status |= LSR_OVERRUN;
    uart->overrun = false;
    return status;
}

/* The modem's lines: a cable to somebody always ready, or in loopback our own. */
static uint8_t uart_modem_lines(const struct uart16550 *uart)
{
    if (!(uart->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
           (uart->mcr & MCR_OUT1 ? MSR_RING : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t uart_read_msr(struct uart16550 *uart)
{
    uint8_t status = uart_modem_lines(uart) | uart->modem_changes;

    uart->modem_changes = 0;
    return status;
}

static uint8_t uart_read_register(struct uart16550 *uart, unsigned reg)
{
    switch (reg) {
    case REG_DATA:
        return uart->lcr & LCR_DLAB ? uart->divisor[0] : uart_read_data(uart);
    case REG_IER:
        return uart->lcr & LCR_DLAB ? uart->divisor[1] : uart->ier;
    case REG_IIR:
        return uart_read_iir(uart);
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        return uart_read_lsr(uart);
    case REG_MSR:
        return uart_read_msr(uart);
    default:
        return uart->scr;
    }
}

/* How many bytes the line would take from the terminal. Once begun, the FIFO is emptied first. */
static size_t uart_free(const struct uart16550 *uart)
{
    if (uart->mcr & MCR_LOOP || !(uart->mcr & MCR_RTS) || uart->count > 0)
        return 0;
    return uart_capacity(uart);
}

static uint8_t uart_read(struct chip *chip, unsigned reg)
{
    struct uart16550 *uart = container_of(chip, struct uart16550, chip);
    size_t before, after;
    uint8_t value;

    pthread_mutex_lock(&uart->mutex);
    before = uart_free(uart);
    value = uart_read_register(uart, reg);
    after = uart_free(uart);
    uart_update_line(uart);
    pthread_mutex_unlock(&uart->mutex);

    if (before == 0 && after > 0)
        terminal_take_input(uart->terminal);
    return value;
}

static void uart_loop_back(struct uart16550 *uart, uint8_t byte)
{
    if (uart->count < uart_capacity(uart))
        uart->fifo[uart->count++] = byte;
    else
        uart->overrun = true;
    uart->transmitted = true;
}

/* The 8250 drivers count on it: enabling the interrupt while nothing is to be sent raises it. */
static void uart_write_ier(struct uart16550 *uart, uint8_t value)
{
    if (value & ~uart->ier & IER_TRANSMIT)
        uart->transmitted = true;
    uart->ier = value & IER_MASK;
}

/* The other bits count only with FCR_ENABLE; turning the FIFO on or off empties it. */
static void uart_write_fcr(struct uart16550 *uart, uint8_t value)
{
    static const uint8_t triggers[] = { 1, 4, 8, 14 };
    bool enable = value & FCR_ENABLE;

    if (enable != uart->fifo_enabled || (enable && value & FCR_CLEAR_RECEIVE))
        uart->count = 0;
    uart->fifo_enabled = enable;
    uart->trigger = enable ? triggers[value >> FCR_TRIGGER_SHIFT] : 1;
}

static void uart_write_mcr(struct uart16550 *uart, uint8_t value)
{
    uint8_t before = uart_modem_lines(uart);
    uint8_t changes;

    uart->mcr = value & MCR_MASK;
    changes = (before ^ uart_modem_lines(uart)) >> 4;
    if (!(before & MSR_RING))
        changes &= ~MSR_RING_ENDED;
    uart->modem_changes |= changes;
}

static void uart_write_register(struct uart16550 *uart, unsigned reg, uint8_t value)
{
    switch (reg) {
    case REG_DATA:
        if (uart->lcr & LCR_DLAB)
            uart->divisor[0] = value;
        else
            uart_loop_back(uart, value);
        break;
    case REG_IER:
        if (uart->lcr & LCR_DLAB)
            uart->divisor[1] = value;
        else
            uart_write_ier(uart, value);
        break;
    case REG_FCR:
        uart_write_fcr(uart, value);
        break;
    case REG_LCR:
        uart->lcr = value;
        break;
    case REG_MCR:
        uart_write_mcr(uart, value);
        break;
    case REG_SCR:
        uart->scr = value;
        break;
    }
}

/* A byte for the terminal, which may make us wait; only then is it sent. */
static void uart_transmit(struct uart16550 *uart, uint8_t byte)
{
    terminal_write(uart->terminal, &byte, 1);
    LOCK_SCOPE(&uart->mutex);
    uart->transmitted = true;
    uart_update_line(uart);
}

static void uart_write(struct chip *chip, unsigned reg, uint8_t value)
{
    struct uart16550 *uart = container_of(chip, struct uart16550, chip);
    size_t before, after;
    bool transmit;

    pthread_mutex_lock(&uart->mutex);
    before = uart_free(uart);
    transmit = reg == REG_DATA && !(uart->lcr & LCR_DLAB) && !(uart->mcr & MCR_LOOP);
    if (!transmit)
        uart_write_register(uart, reg, value);
    after = uart_free(uart);
    uart_update_line(uart);
    pthread_mutex_unlock(&uart->mutex);

    if (transmit)
        uart_transmit(uart, value);
    if (before == 0 && after > 0)
        terminal_take_input(uart->terminal);
}

static size_t uart_input(void *owner, const uint8_t *bytes, size_t count)
{
    struct uart16550 *uart = owner;

    LOCK_SCOPE(&uart->mutex);
    if (count > uart_free(uart))
        count = uart_free(uart);
    memcpy(uart->fifo + uart->count, bytes, count);
    uart->count += (unsigned)count;
    uart_update_line(uart);
    return count;
}

static void uart_reset(struct chip *chip)
{
    struct uart16550 *uart = container_of(chip, struct uart16550, chip);

    LOCK_SCOPE(&uart->mutex);
    uart->ier = uart->lcr = uart->mcr = uart->scr = 0;
    uart->divisor[0] = uart->divisor[1] = 0;
    uart->modem_changes = 0;
    uart->trigger = 1;
    uart->fifo_enabled = uart->overrun = uart->transmitted = false;
    uart->count = 0;
    uart_update_line(uart);
}

static void uart_finish(struct chip *chip)
{
    struct uart16550 *uart = container_of(chip, struct uart16550, chip);

    terminal_set_client(uart->terminal, NULL);
    pthread_mutex_destroy(&uart->mutex);
}

static const struct chip_ops uart_ops = {
    .read = uart_read,
    .write = uart_write,
    .reset = uart_reset,
    .finish = uart_finish,
};

struct chip *uart16550_create(const char *name, uint64_t base, const struct irq_line *irq,
                              struct terminal *terminal)
{
    struct uart16550 *uart =
        chip_create(sizeof(*uart), &uart_ops, chip_no_state, name, base, UART16550_SIZE);

    if (!uart)
        return NULL;
    uart->irq = *irq;
    uart->terminal = terminal;
    uart->trigger = 1;
    pthread_mutex_init(&uart->mutex, NULL);
    terminal_set_client(terminal, &(struct terminal_client){ .input = uart_input, .owner = uart });
    return &uart->chip;
}
