/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_BZIMAGE_H
#define FIRMWARE_BOOT_BZIMAGE_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "firmware/boot/pc.h"

/* bzImage: Linux/x86 kernels as distributions ship them; boot protocol 2.12 or later, 64-bit. */

/* True if the file has a bzImage's magic numbers. `head` holds FILE_KIND_HEAD bytes. */
bool bzimage_match(const uint8_t *head);

/* Reads and checks the setup header. Logs the reason of a failure and returns -errno. */
int bzimage_read_header(const struct image *image, struct setup_header *ret_header);

/*
 * Checks the image and loads it at its preferred address. `ret_header` receives its setup header,
 * for the zero page. Logs the reason of a failure and returns -errno.
 */
int bzimage_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
                 struct pc_kernel *ret_kernel, struct setup_header *ret_header);

#endif
