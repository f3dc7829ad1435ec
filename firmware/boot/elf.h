/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_ELF_H
#define FIRMWARE_BOOT_ELF_H

#include <stdbool.h>
#include <stdint.h>

#include "firmware/boot/pc.h"

/*
 * ELF kernels for x86: vmlinux and whatever else is linked to run from physical memory. Entered by
 * the PVH protocol if a note offers it, else at e_entry by the 64-bit protocol of Linux.
 */

/* `head` holds at least four bytes. */
bool elf_match(const uint8_t *head);

/* Checks the file and loads its segments at their physical addresses. Prints; -errno. */
int elf_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
             struct pc_kernel *ret_kernel);

#endif
