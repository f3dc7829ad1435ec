/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_UNWRAP_H
#define FIRMWARE_BOOT_UNWRAP_H

/*
 * What a kernel or a module is in memory, however the file wraps it: as it is, compressed by gzip,
 * zstd or xz, or in an EFI program that would decompress itself (zboot).
 */
struct decompressor;
struct image;

/* `image` must outlive it. Prints why it cannot; -errno. */
int unwrap_open(struct decompressor **ret, const struct image *image);

#endif
