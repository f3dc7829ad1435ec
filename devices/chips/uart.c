/* SPDX-License-Identifier: MIT */
#include "devices/chips/uart.h"

#include <string.h>

#include "devices/console/terminal.h"
#include "vmm/core/base.h"
#include "vmm/core/state.h"

/* Bytes to accept from the terminal: none until the guest has emptied the FIFO. */
static unsigned uart_input_space(const struct uart *uart)
{
    return uart->count == 0 && uart->ops->accepts_input(uart) ? uart->ops->capacity(uart) : 0;
}

static void uart_set_irq(struct uart *uart, bool level)
{
    uart->irq_level = level;
    uart->chip.irq_changes++;
    irq_set(&uart->irq, level);
}

static void uart_update_irq(struct uart *uart)
{
    bool level = uart->ops->irq_level(uart);

    if (level != uart->irq_level) /* setting it costs an ioctl */
        uart_set_irq(uart, level);
}

void uart_lock(struct uart *uart)
{
    pthread_mutex_lock(&uart->mutex);
}

void uart_unlock(struct uart *uart)
{
    unsigned before = uart->input_space, after = uart_input_space(uart);

    uart->input_space = after;
    uart_update_irq(uart);
    pthread_mutex_unlock(&uart->mutex);

    if (before == 0 && after > 0)
        terminal_request_input(uart->terminal);
}

uint8_t uart_receive(struct uart *uart)
{
    uint8_t byte = uart->fifo[0];

    if (uart->count == 0)
        return 0;
    uart->count--;
    memmove(uart->fifo, uart->fifo + 1, uart->count);
    return byte;
}

void uart_transmit(struct uart *uart, uint8_t byte)
{
    terminal_write(uart->terminal, &byte, 1);
    uart_lock(uart);
    uart->transmitted = true;
    uart_unlock(uart);
}

static size_t uart_input(void *owner, const uint8_t *bytes, size_t count)
{
    struct uart *uart = owner;

    uart_lock(uart);
    if (count > uart_input_space(uart))
        count = uart_input_space(uart);
    memcpy(uart->fifo + uart->count, bytes, count);
    uart->count += (unsigned)count;
    uart_unlock(uart);
    return count;
}

void uart_init(struct uart *uart, const struct uart_ops *ops, const struct irq_line *irq,
               struct terminal *terminal)
{
    uart->ops = ops;
    uart->irq = *irq;
    uart->terminal = terminal;
    pthread_mutex_init(&uart->mutex, NULL);
    terminal_set_client(terminal, &(struct terminal_client){ .input = uart_input, .owner = uart });
}

/*
 * After a load, the level that the interrupt controller sees is unknown. The line is set low first,
 * so that setting it high is an edge.
 */
void uart_resume(struct chip *chip)
{
    struct uart *uart = container_of(chip, struct uart, chip);

    uart_lock(uart);
    uart_set_irq(uart, false);
    uart->input_space = 0; /* so that uart_unlock() requests input */
    uart_unlock(uart);
}

void uart_state(struct uart *uart, struct state *s)
{
    state_field(s, uart, transmitted);
    state_data(s, "fifo", uart->fifo, &uart->count, uart->ops->capacity(uart));
}

void uart_finish(struct chip *chip)
{
    struct uart *uart = container_of(chip, struct uart, chip);

    terminal_set_client(uart->terminal, NULL);
    pthread_mutex_destroy(&uart->mutex);
}
