/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_UART_H
#define DEVICES_CHIPS_UART_H

#include <pthread.h>

#include "devices/chips/chip.h"
#include "vmm/core/irq.h"

struct terminal;

/*
 * What serial ports have in common, whatever their registers look like: a FIFO of received bytes, a
 * transmitter at infinite speed, and one interrupt. A port embeds it first and calls
 *
 *     uart_lock()
 *     ... registers, uart_receive(), transmitted = true ...
 *     uart_unlock()     sets the interrupt, and asks the terminal for input where there is room now
 *
 * and for a byte that is sent, with the mutex free, uart_transmit().
 */
#define UART_FIFO_SIZE 32 /* bytes, at most */

struct uart;

/* With the mutex held. */
struct uart_ops {
    unsigned (*capacity)(const struct uart *uart); /* of the FIFO: 1 to UART_FIFO_SIZE bytes */
    bool (*listening)(const struct uart *uart);    /* may bytes come in from the terminal? */
    bool (*interrupts)(const struct uart *uart);   /* the level of its interrupt */
};

struct uart {
    struct chip chip;
    const struct uart_ops *ops;
    struct irq_line irq;
    struct terminal *terminal;

    /* Of all below and of the port's registers; not held while the terminal is called. */
    pthread_mutex_t mutex;
    bool transmitted; /* the transmitter ran empty, and the guest does not know */
    bool line;        /* level of irq */
    uint8_t fifo[UART_FIFO_SIZE];
    uint32_t count;
    unsigned room; /* for input, when the mutex was last released */
};

/* For ports, last in their create(): becomes the client of `terminal`. */
void uart_init(struct uart *uart, const struct uart_ops *ops, const struct irq_line *irq,
               struct terminal *terminal);
void uart_resume(struct chip *chip); /* struct chip_ops.resume, */
void uart_finish(struct chip *chip); /* and .finish */

/* Behind the port's registers, which say what its FIFO holds. With the mutex held. */
void uart_state(struct uart *uart, struct state *s);

void uart_lock(struct uart *uart);
void uart_unlock(struct uart *uart);

/* Takes the oldest byte out of the FIFO; 0 if it is empty. With the mutex held. */
uint8_t uart_receive(struct uart *uart);

/* Waits where the terminal cannot take the byte; only then is it sent. */
void uart_transmit(struct uart *uart, uint8_t byte);

#endif
