/* SPDX-License-Identifier: MIT */
#include "firmware/boot/payload.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"

#define HEADER_OFFSET   0x1f0 /* a byte before the header, so that its fields are aligned */
#define PROTOCOL_2_08   0x208 /* has the payload's place */
#define SECTOR          512
#define DEFAULT_SECTORS 4

struct payload_header {
    uint8_t before, setup_sects;
    uint8_t skipped[0x202 - 0x1f2];
    char magic[4];
    le16 version;
    uint8_t more[0x248 - 0x208];
    le32 payload_offset, payload_length;
};
static_assert(offsetof(struct payload_header, payload_offset) == 0x248 - HEADER_OFFSET, "boot.rst");

static const struct {
    const char *magic;
    size_t magic_size;
    enum compression compression;
} payload_formats[] = {
    { GZIP_MAGIC, sizeof(GZIP_MAGIC) - 1, COMPRESSION_GZIP },
    { ZSTD_MAGIC, sizeof(ZSTD_MAGIC) - 1, COMPRESSION_ZSTD },
    { XZ_MAGIC, sizeof(XZ_MAGIC) - 1, COMPRESSION_XZ },
    { LZ4_MAGIC, sizeof(LZ4_MAGIC) - 1, COMPRESSION_LZ4 },
};

/* The size follows the compressed data; gzip has it there anyway. */
bool payload_find(struct payload *ret, const struct image *image)
{
    struct payload_header header;
    uint64_t offset, length;
    char magic[8];
    le32 size;

    if (image->size < HEADER_OFFSET + sizeof(header) ||
        image_read(image, HEADER_OFFSET, &header, sizeof(header)) ||
        memcmp(header.magic, "HdrS", 4) || le16_load(&header.version) < PROTOCOL_2_08)
        return false;
    offset = (header.setup_sects ? header.setup_sects + 1u : DEFAULT_SECTORS + 1u) * SECTOR +
             (uint64_t)le32_load(&header.payload_offset);
    length = le32_load(&header.payload_length);
    if (length < sizeof(magic) + sizeof(size) || offset > image->size ||
        length > image->size - offset || image_read(image, offset, magic, sizeof(magic)) ||
        image_read(image, offset + length - sizeof(size), &size, sizeof(size)))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(payload_formats); i++)
        if (!memcmp(magic, payload_formats[i].magic, payload_formats[i].magic_size)) {
            *ret = (struct payload){ .offset = offset,
                                     .size = length - sizeof(size),
                                     .compression = payload_formats[i].compression,
                                     .unpacked_size = le32_load(&size) };
            if (ret->compression == COMPRESSION_GZIP)
                ret->size = length;
            return true;
        }
    return false;
}
