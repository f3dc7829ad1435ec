/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_UNWRAP_H
#define FIRMWARE_BOOT_UNWRAP_H

#include <stdint.h>

/*
 * Opens a kernel or module file for reading its uncompressed contents: a plain file, one compressed
 * by gzip, zstd or xz, or a self-decompressing EFI program (zboot).
 */
struct decompressor;
struct image;

/* `image` must outlive the decompressor. Logs the reason of a failure and returns -errno. */
int unwrap_open(struct decompressor **ret, const struct image *image);

/*
 * Replaces an open image, if it is such a file, by its uncompressed contents in a memfd: they are
 * unpacked once, and by nobody who runs a guest. At most `limit` bytes, else -EFBIG. Logs the
 * reason of a failure and returns -errno.
 */
int unwrap_image(struct image *image, uint64_t limit);

#endif
