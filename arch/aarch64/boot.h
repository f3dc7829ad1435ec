/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_BOOT_H
#define ARCH_AARCH64_BOOT_H

#include "vmm/core/memory.h"

struct boot_files;
struct hardware;

/*
 * Loads kernel, initrd and device tree into zeroed RAM, at start and after each reset. The first
 * vCPU starts at *ret_entry with the device tree's address, hw->fdt.base, in X0. Prints what is
 * wrong with a file and the remedy; -errno.
 */
int boot_load(struct guest_memory *mem, const struct hardware *hw, const struct boot_files *files,
              gpa_t *ret_entry);

#endif
