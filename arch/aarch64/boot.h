/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_BOOT_H
#define ARCH_AARCH64_BOOT_H

#include "vmm/core/memory.h"

struct boot_files;
struct hardware;

/*
 * Kernel, initrd and device tree into RAM that is all zero. For the start and after each reset.
 * The device tree is then at hw->fdt.base: what X0 holds at `ret_entry`. Prints what is wrong with
 * a file and what to do about it; -errno.
 */
int boot_load(struct guest_memory *mem, const struct hardware *hw, const struct boot_files *files,
              gpa_t *ret_entry);

#endif
