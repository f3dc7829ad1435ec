/* SPDX-License-Identifier: MIT */
#include "firmware/boot/unwrap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "firmware/boot/decompress.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/core/write.h"

#define PIECE (256 * KIB)

/* The header of a self-decompressing EFI kernel (Linux: zboot-header.S). */
struct zboot_header {
    char mz[4], magic[4];
    le32 offset, size; /* of the compressed Image in the file */
    le32 reserved[2];
    char compression[32];
};

static const struct {
    const char *name; /* in a zboot header */
    size_t magic_size;
    const char *magic; /* at the start of a file */
    enum compression compression;
} compressions[] = {
    { "gzip", sizeof(GZIP_MAGIC) - 1, GZIP_MAGIC, COMPRESSION_GZIP },
    { "zstd", sizeof(ZSTD_MAGIC) - 1, ZSTD_MAGIC, COMPRESSION_ZSTD },
    { "zstd", sizeof(ZSTD_SKIP) - 1, ZSTD_SKIP, COMPRESSION_ZSTD },
    { "xz", sizeof(XZ_MAGIC) - 1, XZ_MAGIC, COMPRESSION_XZ },
};

static int unwrap_zboot(const struct image *image, const struct zboot_header *zboot,
                        struct decompressor **ret)
{
    for (unsigned i = 0; i < ARRAY_SIZE(compressions); i++)
        if (!strncmp(zboot->compression, compressions[i].name, strlen(compressions[i].name)))
            return decompress_open(ret, image, le32_load(&zboot->offset), le32_load(&zboot->size),
                                   compressions[i].compression);
    return log_refuse(
        EINVAL,
        "%s is compressed by %.*s; EFI zboot kernels can be loaded if compressed by gzip, zstd or "
        "xz",
        image->path, (int)strnlen(zboot->compression, 8), zboot->compression);
}

/* *ret is NULL if the file is not compressed. */
static int unwrap_try(struct decompressor **ret, const struct image *image)
{
    struct zboot_header head = { 0 };
    size_t size = image->size < sizeof(head) ? image->size : sizeof(head);
    int error = image_read(image, 0, &head, size);

    *ret = NULL;
    if (error)
        return error;
    if (!memcmp(head.mz, "MZ", 2) && !memcmp(head.magic, "zimg", 4))
        return unwrap_zboot(image, &head, ret);
    for (unsigned i = 0; i < ARRAY_SIZE(compressions); i++)
        if (!memcmp(&head, compressions[i].magic, compressions[i].magic_size))
            return decompress_open(ret, image, 0, image->size, compressions[i].compression);
    return 0;
}

int unwrap_open(struct decompressor **ret, const struct image *image)
{
    int error = unwrap_try(ret, image);

    return error || *ret ? error : decompress_open(ret, image, 0, image->size, COMPRESSION_NONE);
}

/* Returns the number of bytes, or -errno. */
static int64_t unwrap_copy(const char *path, struct decompressor *d, int fd, uint64_t limit)
{
    cleanup_free uint8_t *bytes = malloc(PIECE);
    uint64_t size = 0;
    int64_t got;
    int error;

    if (!bytes)
        return log_error(ENOMEM, "%s", path);
    while ((got = decompress_read(d, bytes, PIECE)) > 0) {
        if ((uint64_t)got > limit - size)
            return log_refuse(EFBIG,
                              "%s unpacks to more than %llu MiB, the guest's memory; raise "
                              "--memory",
                              path, (unsigned long long)(limit / MIB));
        error = write_all_at(fd, bytes, (size_t)got, size);
        if (error)
            return log_error(-error, "unpack %s", path);
        size += (uint64_t)got;
    }
    return got < 0 ? got : (int64_t)size;
}

static int unwrap_replace(struct image *image, struct decompressor *d, uint64_t limit)
{
    cleanup_close int fd = memfd_create("unpacked", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int64_t size;

    if (fd < 0)
        return log_error(errno, "unpack %s", image->path);
    size = unwrap_copy(image->path, d, fd, limit);
    if (size < 0)
        return (int)size;
    if (size == 0)
        return log_refuse(EINVAL, "%s is empty", image->path);
    close(image->fd);
    *image = (struct image){ .fd = take_fd(&fd), .path = image->path, .size = (uint64_t)size };
    return 0;
}

int unwrap_image(struct image *image, uint64_t limit)
{
    struct decompressor *d;
    int error = unwrap_try(&d, image);

    if (!error && d)
        error = unwrap_replace(image, d, limit);
    decompress_close(d);
    return error;
}
