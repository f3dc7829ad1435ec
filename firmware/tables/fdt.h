/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_TABLES_FDT_H
#define FIRMWARE_TABLES_FDT_H

#include <stdint.h>

#include "vmm/core/memory.h"

/*
 * The machine as a flattened device tree (Devicetree Specification 0.4), written into hw->fdt. The
 * vCPUs are not running. These functions print why they fail and return -errno.
 */
struct hardware;
struct image;

#define FDT_PMU_INTERRUPT 23 /* of the GIC: the performance counters' PPI 7 */

/* What the kernel is told besides. Random seeds are added. */
struct fdt_chosen {
    const char *cmdline;
    gpa_t initrd; /* initrd_size 0: there is none */
    uint64_t initrd_size;
};

int fdt_build(struct guest_memory *mem, const struct hardware *hw, const struct fdt_chosen *chosen);

/* The user's tree instead; only /chosen is filled in. */
int fdt_adopt(struct guest_memory *mem, const struct hardware *hw, const struct image *dtb,
              const struct fdt_chosen *chosen);

/* Writes the tree, as the guest finds it, into a file. */
int fdt_dump(const struct guest_memory *mem, const struct hardware *hw, const char *path);

#endif
