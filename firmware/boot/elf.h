/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_ELF_H
#define FIRMWARE_BOOT_ELF_H

#include <stdbool.h>
#include <stdint.h>

#include "firmware/boot/pc.h"

/*
 * ELF kernels for x86: vmlinux, and others linked to physical addresses. Entered by the PVH
 * protocol if an ELF note has its entry point, else at e_entry by Linux's 64-bit boot protocol.
 * Nothing in a file says that it speaks the latter; refused is what shows that it does not:
 * Multiboot kernels, BSD's, programs.
 */

/* True if the file has ELF's magic number. `head` holds at least four bytes. */
bool elf_match(const uint8_t *head);

/*
 * Checks the file and loads its segments at their physical addresses. Logs the reason of a failure
 * and returns -errno.
 */
int elf_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
             struct pc_kernel *ret_kernel);

#endif
