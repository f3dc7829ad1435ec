/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_BOOT_H
#define ARCH_X86_64_BOOT_H

#include <stdbool.h>

#include "vmm/core/memory.h"

struct boot_files;
struct hardware;

enum boot_protocol {
    BOOT_LINUX64, /* 64-bit mode, paging on, RSI = argument: the zero page */
    BOOT_PVH,     /* 32-bit flat mode, no paging, EBX = argument: the start info */
};

/* How the first vCPU starts. */
struct boot_entry {
    enum boot_protocol protocol;
    gpa_t rip;
    gpa_t argument;
    bool la57; /* five levels of page tables; BOOT_LINUX64 only */
    gpa_t page_tables;
};

/*
 * Loads kernel, initrd, parameters, ACPI tables, GDT and page tables (an identity mapping of the
 * first 4 GiB) into zeroed RAM, at the addresses of layout.h. At start and after each reset. Prints
 * what is wrong with a file and the remedy; -errno.
 */
int boot_load(struct guest_memory *mem, const struct hardware *hw, const struct boot_files *files,
              struct boot_entry *ret_entry);

#endif
