/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_UNWRAP_H
#define FIRMWARE_BOOT_UNWRAP_H

/*
 * Opens a kernel or module file for reading its uncompressed contents: a plain file, one compressed
 * by gzip, zstd or xz, or a self-decompressing EFI program (zboot).
 */
struct decompressor;
struct image;

/* `image` must outlive the decompressor. Logs the reason of a failure and returns -errno. */
int unwrap_open(struct decompressor **ret, const struct image *image);

#endif
