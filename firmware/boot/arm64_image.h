/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_ARM64_IMAGE_H
#define FIRMWARE_BOOT_ARM64_IMAGE_H

#include "vmm/core/memory.h"

struct hardware;
struct image;

/*
 * Linux/arm64's Image (Documentation/arm64/booting.rst): plain, compressed by gzip, zstd or xz,
 * or in an EFI program that would decompress itself (zboot).
 */
struct arm64_kernel {
    gpa_t entry;
    gpa_t end; /* of what the kernel needs from its start */
};

/*
 * Checks the image and loads it near the start of RAM, below the device tree. Prints why it cannot;
 * -errno.
 */
int arm64_image_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
                     struct arm64_kernel *ret_kernel);

#endif
