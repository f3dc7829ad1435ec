/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_TABLES_FDT_H
#define FIRMWARE_TABLES_FDT_H

#include <stdint.h>

#include "vmm/core/memory.h"

/*
 * Describes the machine by a flattened device tree (Devicetree Specification 0.4) in hw->fdt. Call
 * these functions while no vCPU runs. They log the reason of a failure and return -errno.
 */
struct hardware;
struct image;

#define FDT_PMU_INTERRUPT 23 /* the performance counters' GIC interrupt: PPI 7 */

/* Contents of /chosen; fdt_build() and fdt_load() add random seeds. */
struct fdt_chosen {
    const char *cmdline;
    gpa_t initrd; /* initrd_size 0: none */
    uint64_t initrd_size;
};

/* Writes a tree made from `hw`. */
int fdt_build(struct guest_memory *mem, const struct hardware *hw, const struct fdt_chosen *chosen);

/* Writes the user's tree `dtb` instead, with /chosen filled in. */
int fdt_load(struct guest_memory *mem, const struct hardware *hw, const struct image *dtb,
             const struct fdt_chosen *chosen);

/* Writes the finished tree to a file. */
int fdt_dump(const struct guest_memory *mem, const struct hardware *hw, const char *path);

#endif
