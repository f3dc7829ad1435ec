/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PL011_H
#define DEVICES_CHIPS_PL011_H

#include "devices/chips/chip.h"
#include "devices/chips/primecell.h"
#include "vmm/core/irq.h"

struct terminal;

#define PL011_SIZE PRIMECELL_SIZE

/*
 * Arm's serial port. As with uart16550_create(), a byte is sent when written, and input is received
 * only while the guest raises RTS and the FIFO is empty, so none is lost before the driver is
 * ready.
 *
 * Becomes the client of `terminal`, which must outlive it. `irq` is level-triggered. NULL: out of
 * memory.
 */
struct chip *pl011_create(const char *name, uint64_t base, const struct irq_line *irq,
                          struct terminal *terminal);

#endif
