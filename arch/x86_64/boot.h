/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_BOOT_H
#define ARCH_X86_64_BOOT_H

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
};

/*
 * Kernel, initrd, parameters, ACPI tables, GDT and page tables (the first 4 GiB mapped one to one)
 * into RAM that is all zero, at the places of layout.h. For the start and after each reset.
 * Prints what is wrong with a file and what to do about it; -errno.
 */
int boot_load(struct guest_memory *mem, const struct hardware *hw, const struct boot_files *files,
              struct boot_entry *ret_entry);

#endif
