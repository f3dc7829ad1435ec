/* SPDX-License-Identifier: MIT */
#include "firmware/arm64_image.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "firmware/decompress.h"
#include "firmware/file_kind.h"
#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/base.h"
#include "vmm/endian.h"
#include "vmm/log.h"

#define WANTED "an arm64 Image: plain, compressed by gzip or zstd, or EFI zboot"

#define FLAG_BIG_ENDIAN 1u

struct arm64_header {
    le32 code[2];
    le64 text_offset;
    le64 image_size; /* with what lies behind the file's end */
    le64 flags;
    le64 reserved[3];
    char magic[4];
    le32 pe_offset;
};
static_assert(sizeof(struct arm64_header) == 64, "as in booting.rst");

/* The start of a kernel that decompresses itself under EFI (Linux: zboot-header.S). */
struct zboot_header {
    char mz[4], magic[4];
    le32 offset, size; /* of the compressed Image in the file */
    le32 reserved[2];
    char compression[32];
};

/* What EFI loads of a kernel, as PE has it: no file ends before. */
struct pe_header {
    char magic[4];
    le16 machine, sections;
    le32 date, symbols, symbol_count;
    le16 optional_size, flags; /* of the header between this one and the sections */
};
struct pe_section {
    char name[8];
    le32 memory_size, address;
    le32 size, offset; /* in the file */
    le32 unused[4];
};
static_assert(sizeof(struct pe_header) == 24 && sizeof(struct pe_section) == 40, "as in PE/COFF");

static const struct {
    const char *name; /* as zboot has it */
    size_t magic_size;
    const char *magic; /* at the start of a file */
    enum compression compression;
} arm64_compressions[] = {
    { "gzip", 2, "\x1f\x8b", COMPRESSION_GZIP },
    { "zstd", 4, "\x28\xb5\x2f\xfd", COMPRESSION_ZSTD },
};

static int arm64_open_zboot(const struct image *image, const struct zboot_header *zboot,
                            struct decompressor **ret)
{
    for (unsigned i = 0; i < ARRAY_SIZE(arm64_compressions); i++)
        if (!strncmp(zboot->compression, arm64_compressions[i].name,
                     strlen(arm64_compressions[i].name)))
            return decompress_open(ret, image, le32_load(&zboot->offset), le32_load(&zboot->size),
                                   arm64_compressions[i].compression);
    return log_refuse(
        EINVAL,
        "%s is compressed by %.*s; of EFI zboot kernels only those compressed by gzip "
        "or zstd can be loaded",
        image->path, (int)strnlen(zboot->compression, 8), zboot->compression);
}

/* The Image in the file, however it is wrapped. */
static int arm64_open(const struct image *image, struct decompressor **ret)
{
    struct zboot_header head = { 0 };
    size_t size = image->size < sizeof(head) ? image->size : sizeof(head);
    int error = image_read(image, 0, &head, size);

    if (error)
        return error;
    if (!memcmp(head.mz, "MZ", 2) && !memcmp(head.magic, "zimg", 4))
        return arm64_open_zboot(image, &head, ret);
    for (unsigned i = 0; i < ARRAY_SIZE(arm64_compressions); i++)
        if (!memcmp(&head, arm64_compressions[i].magic, arm64_compressions[i].magic_size))
            return decompress_open(ret, image, 0, image->size, arm64_compressions[i].compression);
    return decompress_open(ret, image, 0, image->size, COMPRESSION_NONE);
}

/* Where it shall lie: at the start of RAM, that many bytes on, with room for all of it. */
static int arm64_place(const char *path, const struct arm64_header *header,
                       const struct hardware *hw, struct arm64_kernel *ret)
{
    uint64_t offset = le64_load(&header->text_offset), size = le64_load(&header->image_size);
    uint64_t room = hw->fdt.base - hw->ram[0].base;

    if (le64_load(&header->flags) & FLAG_BIG_ENDIAN)
        return log_refuse(EINVAL, "%s is a big-endian kernel; name a little-endian one", path);
    if (size == 0)
        return log_refuse(EINVAL, "%s is a kernel older than Linux 3.17; name a newer one", path);
    if (offset > GIB || size > GIB)
        return log_refuse(EINVAL, "%s is damaged: a kernel of %#llx bytes at offset %#llx", path,
                          (unsigned long long)size, (unsigned long long)offset);
    if (offset > room || size > room - offset)
        return log_refuse(ENOMEM,
                          "%s needs %llu MiB of memory, the guest has %llu for it; raise --memory",
                          path, (unsigned long long)(align_up(offset + size, MIB) / MIB),
                          (unsigned long long)(room / MIB));
    ret->entry = hw->ram[0].base + offset;
    ret->end = ret->entry + size;
    return 0;
}

/* How many bytes the file must have, or 0 where it does not say. */
static uint64_t arm64_file_size(const uint8_t head[FILE_KIND_HEAD])
{
    uint64_t at = le32_load(&((const struct arm64_header *)head)->pe_offset), end = 0;
    struct pe_section section;
    struct pe_header pe;

    if (at > FILE_KIND_HEAD - sizeof(pe))
        return 0;
    memcpy(&pe, head + at, sizeof(pe));
    if (memcmp(pe.magic, "PE\0", sizeof(pe.magic)))
        return 0;
    at += sizeof(pe) + le16_load(&pe.optional_size);
    for (unsigned i = 0; i < le16_load(&pe.sections); i++, at += sizeof(section)) {
        uint64_t section_end;

        if (at > FILE_KIND_HEAD - sizeof(section))
            break;
        memcpy(&section, head + at, sizeof(section));
        section_end = (uint64_t)le32_load(&section.offset) + le32_load(&section.size);
        if (section_end > end)
            end = section_end;
    }
    return end;
}

/* With its first bytes known: checks and loads it. */
static int arm64_load(const char *path, const uint8_t *head, size_t head_size,
                      struct decompressor *d, struct guest_memory *mem, const struct hardware *hw,
                      struct arm64_kernel *ret)
{
    const struct arm64_header *header = (const struct arm64_header *)head;
    struct arm64_kernel kernel;
    uint64_t size;
    int64_t loaded;
    int error;

    if (memcmp(header->magic, "ARM\x64", sizeof(header->magic)))
        return file_kind_refuse(path, head, WANTED);
    error = arm64_place(path, header, hw, &kernel);
    if (error)
        return error;

    size = kernel.end - kernel.entry;
    if (size < head_size)
        head_size = size;
    if (guest_write(mem, kernel.entry, head, head_size) < 0)
        return log_refuse(EFAULT, "%s: no RAM at %#llx", path, (unsigned long long)kernel.entry);
    loaded = decompress_read(d, guest_ptr(mem, kernel.entry + head_size, size - head_size),
                             size - head_size);
    if (loaded < 0)
        return (int)loaded;
    if (head_size + (uint64_t)loaded < size && head_size + (uint64_t)loaded < arm64_file_size(head))
        return log_refuse(EINVAL, "%s is truncated: its kernel ends after %llu of %llu bytes", path,
                          (unsigned long long)(head_size + (uint64_t)loaded),
                          (unsigned long long)arm64_file_size(head));
    *ret = kernel;
    return 0;
}

int arm64_image_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
                     struct arm64_kernel *ret_kernel)
{
    _Alignas(struct arm64_header) uint8_t head[FILE_KIND_HEAD] = { 0 };
    struct decompressor *d;
    int64_t size;
    int error = arm64_open(image, &d);

    if (error)
        return error;
    size = decompress_read(d, head, sizeof(head));
    error =
        size < 0 ? (int)size : arm64_load(image->path, head, (size_t)size, d, mem, hw, ret_kernel);
    decompress_close(d);
    return error;
}
