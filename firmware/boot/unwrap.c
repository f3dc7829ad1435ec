/* SPDX-License-Identifier: MIT */
#include "firmware/boot/unwrap.h"

#include <errno.h>
#include <string.h>

#include "firmware/boot/decompress.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

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

int unwrap_open(struct decompressor **ret, const struct image *image)
{
    struct zboot_header head = { 0 };
    size_t size = image->size < sizeof(head) ? image->size : sizeof(head);
    int error = image_read(image, 0, &head, size);

    if (error)
        return error;
    if (!memcmp(head.mz, "MZ", 2) && !memcmp(head.magic, "zimg", 4))
        return unwrap_zboot(image, &head, ret);
    for (unsigned i = 0; i < ARRAY_SIZE(compressions); i++)
        if (!memcmp(&head, compressions[i].magic, compressions[i].magic_size))
            return decompress_open(ret, image, 0, image->size, compressions[i].compression);
    return decompress_open(ret, image, 0, image->size, COMPRESSION_NONE);
}
