/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_UART16550_H
#define DEVICES_CHIPS_UART16550_H

#include "devices/chips/chip.h"
#include "vmm/core/irq.h"

struct terminal;

#define UART16550_SIZE 8 /* bytes */

/*
 * The PC's serial port. A byte is sent when written; the write blocks while the terminal's buffer
 * is full. Input is received only while the guest raises RTS (hardware flow control) and the FIFO
 * is empty. So none is lost, not even what was typed before the guest's driver set the port up. In
 * loopback mode the port is disconnected from the terminal.
 *
 * Becomes the client of `terminal`, which must outlive it. `irq` may be edge-triggered. NULL: out
 * of memory.
 */
struct chip *uart16550_create(const char *name, uint64_t base, const struct irq_line *irq,
                              struct terminal *terminal);

#endif
