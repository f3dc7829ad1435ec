/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_ZERO_PAGE_H
#define FIRMWARE_BOOT_ZERO_PAGE_H

#include <asm/bootparam.h>

#include "firmware/boot/pc.h"

/*
 * Writes the zero page of the 64-bit boot protocol at `gpa`, and at `seed` a random seed for it to
 * point to. `header` comes from the kernel image, or is NULL for one that has none. 0 or -errno;
 * prints.
 */
int zero_page_write(struct guest_memory *mem, gpa_t gpa, gpa_t seed, const struct hardware *hw,
                    const struct setup_header *header, const struct pc_boot_data *data);

#endif
