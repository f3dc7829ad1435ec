/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_PC_H
#define FIRMWARE_BOOT_PC_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/memory.h"

struct hardware;
struct image;

/*
 * The memory map of a PC: RAM with a hole below 1 MiB, which has the ACPI tables and what remains
 * of a BIOS, and a hole below 4 GiB, which has the devices.
 */
#define PC_HOLE_BASE   0xa0000
#define PC_BIOS_BASE   0xf0000
#define PC_HIGH_RAM    0x100000 /* kernels and initrds lie above */
#define PC_LOW_RAM_END 0xc0000000

enum pc_range_type { PC_RAM = 1, PC_RESERVED = 2, PC_ACPI = 3 }; /* numbers of e820 and PVH */

struct pc_range {
    gpa_t base;
    uint64_t size; /* bytes */
    enum pc_range_type type;
};

#define PC_MAX_RANGES 5

/* Fills in the map in ascending order and returns the number of ranges. */
unsigned pc_memory_map(const struct hardware *hw, struct pc_range ret_ranges[PC_MAX_RANGES]);

/* First address after the RAM that kernel and initrd may use. */
gpa_t pc_ram_end(const struct hardware *hw);

/* Refuses a kernel outside of [PC_HIGH_RAM, pc_ram_end()): logs the reason, returns -errno. */
int pc_check_kernel(const struct hardware *hw, const struct image *kernel, gpa_t base,
                    uint64_t size);

/* A loaded kernel, as each loader describes it. */
struct pc_kernel {
    bool pvh; /* entered by the PVH protocol, else by Linux's 64-bit boot protocol */
    gpa_t entry;
    gpa_t end;             /* lowest address for the initrd */
    gpa_t initrd_end;      /* highest end of the initrd, exclusive */
    uint32_t cmdline_size; /* longest command line in bytes, without the NUL */
};

/* Guest addresses of command line and initrd, chosen by arch/x86_64/boot.c. */
struct pc_boot_data {
    gpa_t cmdline;
    gpa_t initrd; /* initrd_size 0: none */
    uint64_t initrd_size;
};

#endif
