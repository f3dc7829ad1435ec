/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PL011_H
#define DEVICES_CHIPS_PL011_H

#include "devices/chips/chip.h"
#include "devices/chips/primecell.h"
#include "vmm/core/irq.h"

struct terminal;

#define PL011_SIZE PRIMECELL_SIZE

/*
 * Arm's serial port, at infinite speed. As with the 16550, a byte is sent when it is written, and
 * bytes come in while the guest raises RTS and has received all before: what is typed or piped in
 * before its driver is ready is not lost. Becomes the client of `terminal`, which outlives it.
 * `irq` is a level.
 */
struct chip *pl011_create(const char *name, uint64_t base, const struct irq_line *irq,
                          struct terminal *terminal);

#endif
