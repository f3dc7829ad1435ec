/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_VMLINUX_H
#define FIRMWARE_BOOT_VMLINUX_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "firmware/boot/pc.h"

/*
 * Loads what a bzImage contains, unpacked: an ELF file, behind it the relocations. Does what the
 * kernel's own decompressor would do, with `randomize` including KASLR: random physical and virtual
 * addresses. Beside the kernel there is room for an initrd of `initrd_size` bytes. `header` is the
 * bzImage's; gets KASLR_FLAG.
 *
 * -ENOEXEC, without a message and with RAM unchanged, if the file is not as this code expects it:
 * then the kernel must unpack itself. Other errors are logged.
 */
int vmlinux_load(const struct image *unpacked, bool randomize, uint64_t initrd_size,
                 struct guest_memory *mem, const struct hardware *hw, struct setup_header *header,
                 struct pc_kernel *ret_kernel);

#endif
