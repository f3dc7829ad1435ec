/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_PVH_H
#define FIRMWARE_BOOT_PVH_H

#include "firmware/boot/pc.h"

/*
 * Writes the start info of Xen's PVH boot protocol, version 1, with its memory map and module list,
 * into the page at `gpa`. Returns 0 or -errno.
 */
int pvh_write(struct guest_memory *mem, gpa_t gpa, const struct hardware *hw,
              const struct pc_boot_data *data);

#endif
