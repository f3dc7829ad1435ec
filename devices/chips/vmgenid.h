/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_VMGENID_H
#define DEVICES_CHIPS_VMGENID_H

#include "devices/chips/chip.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"

/*
 * The generation of a virtual machine (Microsoft, "Virtual Machine Generation ID"): random bytes in
 * guest RAM, which change whenever a machine starts from a snapshot, as any number of machines may.
 * `irq` is edge-triggered and pulsed after a change: the guest's kernel then seeds its random
 * generator anew. A reset changes nothing, and a machine that was saved keeps its generation.
 *
 * The chip has no registers. `at` is where the guest looks for the VMGENID_SIZE bytes, in RAM that
 * its memory map excludes. NULL: out of memory.
 */
#define VMGENID_SIZE 16

struct chip *vmgenid_create(const char *name, struct guest_memory *mem, gpa_t at,
                            const struct irq_line *irq);

/* Writes the bytes to RAM that was cleared, before a boot. */
void vmgenid_write(struct chip *chip);

#endif
