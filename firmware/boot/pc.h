/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_PC_H
#define FIRMWARE_BOOT_PC_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/memory.h"

struct hardware;
struct image;

/*
 * A PC's RAM as a kernel finds it: a hole below 1 MiB, with the ACPI tables and a bit of a BIOS,
 * and one below 4 GiB, with the devices.
 */
#define PC_HOLE_BASE   0xa0000
#define PC_BIOS_BASE   0xf0000
#define PC_HIGH_RAM    0x100000 /* kernels and initrds lie above */
#define PC_LOW_RAM_END 0xc0000000

enum pc_range_type { PC_RAM = 1, PC_RESERVED = 2, PC_ACPI = 3 }; /* as e820 and PVH number them */

struct pc_range {
    gpa_t base;
    uint64_t size; /* bytes */
    enum pc_range_type type;
};

#define PC_MAX_RANGES 5

/* The map in ascending order; returns how many ranges it has. */
unsigned pc_memory_map(const struct hardware *hw, struct pc_range ret_ranges[PC_MAX_RANGES]);

/* The end of the RAM that kernel and initrd may use. */
gpa_t pc_ram_end(const struct hardware *hw);

/* Refuses a kernel that would not lie between PC_HIGH_RAM and pc_ram_end(). Prints; -errno. */
int pc_check_kernel(const struct hardware *hw, const struct image *kernel, gpa_t base,
                    uint64_t size);

/* What every loader finds out about its kernel. */
struct pc_kernel {
    bool pvh; /* entered by the PVH protocol, else by the 64-bit one of Linux */
    gpa_t entry;
    gpa_t end;             /* the initrd may lie from here on ... */
    gpa_t initrd_end;      /* ... and must end here at the latest */
    uint32_t cmdline_size; /* the longest it takes, without the NUL */
};

/* Where boot.c put what the kernel shall find. */
struct pc_boot_data {
    gpa_t cmdline;
    gpa_t initrd; /* initrd_size 0: there is none */
    uint64_t initrd_size;
};

#endif
