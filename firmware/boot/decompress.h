/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_DECOMPRESS_H
#define FIRMWARE_BOOT_DECOMPRESS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Part of a file as the bytes it stands for, in order, straight to where they shall lie: nothing of
 * it is kept, so that what a hostile file unpacks to is bounded by what is read.
 */
struct image;
struct decompressor;

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD, COMPRESSION_XZ };

/* The bytes that such a file starts with; the NUL of the string is not one of them. */
#define GZIP_MAGIC "\x1f\x8b"
#define ZSTD_MAGIC "\x28\xb5\x2f\xfd"
#define XZ_MAGIC   "\xfd\x37zXZ\0"

/* `image` must hold all of [offset, offset + size), and outlive this. Prints; -errno. */
int decompress_open(struct decompressor **ret, const struct image *image, uint64_t offset,
                    uint64_t size, enum compression compression);
void decompress_close(struct decompressor *d); /* accepts NULL */

/* Fills `dst`; less than `len` only at the end. Prints what is wrong with the file; -errno. */
int64_t decompress_read(struct decompressor *d, void *dst, size_t len);

#endif
