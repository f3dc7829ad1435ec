/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_BZIMAGE_H
#define FIRMWARE_BOOT_BZIMAGE_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "firmware/boot/pc.h"

/* Linux/x86 kernels as distributions ship them, by the 64-bit boot protocol 2.12 and later. */

/* Does this file claim to be one? `head` holds FILE_KIND_HEAD bytes. */
bool bzimage_match(const uint8_t *head);

/*
 * Checks the image and loads it where it would like to lie. `ret_header` is its setup header,
 * as the zero page wants it. Prints why it cannot; -errno.
 */
int bzimage_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
                 struct pc_kernel *ret_kernel, struct setup_header *ret_header);

#endif
