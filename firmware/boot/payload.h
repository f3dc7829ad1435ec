/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_PAYLOAD_H
#define FIRMWARE_BOOT_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "firmware/boot/decompress.h"

struct image;

/* The compressed kernel in a bzImage (Linux, boot.rst: payload_offset), for decompress_open(). */
struct payload {
    uint64_t offset, size; /* in the image */
    enum compression compression;
    uint32_t unpacked_size; /* as the file says */
};

/* False, without a message, if the image is no bzImage or its payload is compressed otherwise. */
bool payload_find(struct payload *ret, const struct image *image);

#endif
