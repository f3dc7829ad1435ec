/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_UART_H
#define DEVICES_CHIPS_UART_H

#include <pthread.h>

#include "devices/chips/chip.h"
#include "vmm/core/irq.h"

struct terminal;

/*
 * The common part of serial ports: a receive FIFO, a transmitter that is always ready, and one
 * interrupt. A port embeds struct uart as its first member and wraps register accesses into
 *
 *     uart_lock()
 *     ... registers, uart_receive(), transmitted = true ...
 *     uart_unlock()     updates the interrupt line; requests input if there is room again
 *
 * It sends a byte by uart_transmit(), without the mutex.
 */
#define UART_FIFO_SIZE 32 /* bytes; the largest capacity */

struct uart;

/* Called with the mutex held. */
struct uart_ops {
    unsigned (*capacity)(const struct uart *uart);  /* of the FIFO: 1 to UART_FIFO_SIZE bytes */
    bool (*accepts_input)(const struct uart *uart); /* does the guest raise RTS? */
    bool (*irq_level)(const struct uart *uart);     /* what the interrupt line should be */
};

struct uart {
    struct chip chip;
    const struct uart_ops *ops;
    struct irq_line irq;
    struct terminal *terminal;

    /* Protects the fields below and the port's registers. Not held during terminal calls. */
    pthread_mutex_t mutex;
    bool transmitted; /* the transmitter became empty: interrupt not yet acknowledged */
    bool irq_level;   /* of `irq` */
    uint8_t fifo[UART_FIFO_SIZE];
    uint32_t count;
    unsigned input_space; /* for input, when the mutex was last released */
};

/*
 * Called last in the create() of a port. The UART becomes the client of `terminal`, which must
 * outlive it.
 */
void uart_init(struct uart *uart, const struct uart_ops *ops, const struct irq_line *irq,
               struct terminal *terminal);
void uart_resume(struct chip *chip); /* for chip_ops.resume */
void uart_finish(struct chip *chip); /* for chip_ops.finish */

/* Called after the port's registers, as they determine capacity(). With the mutex held. */
void uart_state(struct uart *uart, struct state *s);

void uart_lock(struct uart *uart);
void uart_unlock(struct uart *uart);

/* Removes the oldest byte of the FIFO; 0 if it is empty. With the mutex held. */
uint8_t uart_receive(struct uart *uart);

/* Sends a byte. Blocks while the terminal's buffer is full. Without the mutex, vCPU threads. */
void uart_transmit(struct uart *uart, uint8_t byte);

#endif
