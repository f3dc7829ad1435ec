/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_PVH_H
#define FIRMWARE_BOOT_PVH_H

#include "firmware/boot/pc.h"

/*
 * Writes the start info of Xen's PVH boot protocol, version 1, with the memory map and the module
 * list it points to, into the page at `gpa`. 0 or -errno.
 */
int pvh_write(struct guest_memory *mem, gpa_t gpa, const struct hardware *hw,
              const struct pc_boot_data *data);

#endif
