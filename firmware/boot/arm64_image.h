/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_ARM64_IMAGE_H
#define FIRMWARE_BOOT_ARM64_IMAGE_H

#include "vmm/core/memory.h"

struct hardware;
struct image;

/*
 * Linux/arm64's Image (Documentation/arm64/booting.rst): plain, compressed by gzip, zstd or xz, or
 * a self-decompressing EFI program (zboot).
 */
struct arm64_kernel {
    gpa_t entry;
    gpa_t end; /* first free byte after the kernel, its BSS included */
};

/*
 * Checks the image and loads it near the start of RAM, below the device tree. Logs the reason of a
 * failure and returns -errno.
 */
int arm64_image_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
                     struct arm64_kernel *ret_kernel);

#endif
