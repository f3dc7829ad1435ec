/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_ZERO_PAGE_H
#define FIRMWARE_BOOT_ZERO_PAGE_H

#include <asm/bootparam.h>

#include "firmware/boot/pc.h"

/*
 * Writes the zero page of the 64-bit boot protocol at `gpa`, and at `seed` the random seed that it
 * points to. `header` is the bzImage's setup header; NULL for other kernels. Returns 0, or logs the
 * reason and returns -errno.
 */
int zero_page_write(struct guest_memory *mem, gpa_t gpa, gpa_t seed, const struct hardware *hw,
                    const struct setup_header *header, const struct pc_boot_data *data);

#endif
