/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BOOT_DECOMPRESS_H
#define FIRMWARE_BOOT_DECOMPRESS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Decompresses part of a file as a stream: one member, or several that were joined. A child process
 * does it, which can do nothing else; a decompression bomb unpacks to hardly more than the caller
 * reads. Not after the machine's sandbox was entered: unwrap_image() is for that.
 */
struct image;
struct decompressor;

enum compression {
    COMPRESSION_NONE,
    COMPRESSION_GZIP,
    COMPRESSION_ZSTD,
    COMPRESSION_XZ,
    COMPRESSION_LZ4, /* its legacy format, which kernels use */
};

/* The magic bytes at the start of such a file, without the string's final NUL. */
#define GZIP_MAGIC "\x1f\x8b"
#define ZSTD_MAGIC "\x28\xb5\x2f\xfd"
#define ZSTD_SKIP  "\x50\x2a\x4d\x18" /* a frame without data, with which pzstd's files begin */
#define XZ_MAGIC   "\xfd\x37zXZ\0"
#define LZ4_MAGIC  "\x02\x21\x4c\x18"

/*
 * Opens [offset, offset + size) of `image`, which must outlive the decompressor. Logs the reason
 * of a failure and returns -errno: -EINVAL if the file is shorter, -ENOSYS without the library.
 */
int decompress_open(struct decompressor **ret, const struct image *image, uint64_t offset,
                    uint64_t size, enum compression compression);
void decompress_close(struct decompressor *d); /* accepts NULL */

/*
 * Fills `dst` and returns the bytes written: less than `len` only at the end of the data. Logs
 * what is wrong with the file and returns -errno.
 */
int64_t decompress_read(struct decompressor *d, void *dst, size_t len);

#endif
