/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_UART16550_H
#define DEVICES_CHIPS_UART16550_H

#include "devices/chips/chip.h"
#include "vmm/core/irq.h"

struct terminal;

#define UART16550_SIZE 8 /* bytes */

/*
 * The PC's serial port, at infinite speed. A byte is sent when it is written: the write waits where
 * the terminal cannot take it. Bytes come in while the guest raises RTS, as over a cable with
 * hardware handshake, and only as many as the FIFO has room for: none is lost, not even those
 * typed or piped in before the guest's driver has set the port up. The line in loopback mode is
 * cut. Becomes the client of `terminal`, which outlives it. `irq` may be edge-triggered.
 */
struct chip *uart16550_create(const char *name, uint64_t base, const struct irq_line *irq,
                              struct terminal *terminal);

#endif
