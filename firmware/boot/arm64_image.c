/* SPDX-License-Identifier: MIT */
#include "firmware/boot/arm64_image.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "firmware/boot/decompress.h"
#include "firmware/boot/file_kind.h"
#include "firmware/boot/pe.h"
#include "firmware/boot/unwrap.h"
#include "firmware/hardware.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

#define WANTED "an arm64 Image: plain, compressed by gzip, zstd or xz, or EFI zboot"

#define FLAG_BIG_ENDIAN 1u

struct arm64_header {
    le32 code[2];
    le64 text_offset;
    le64 image_size; /* in memory, with BSS */
    le64 flags;
    le64 reserved[3];
    char magic[4];
    le32 pe_offset;
};
static_assert(sizeof(struct arm64_header) == 64, "booting.rst");

/* Places the kernel at text_offset from the start of RAM and checks that it fits. */
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
        return log_refuse(ENOMEM, "%s needs %llu MiB of memory, the guest has %llu; raise --memory",
                          path, (unsigned long long)(align_up(offset + size, MIB) / MIB),
                          (unsigned long long)(room / MIB));
    ret->entry = hw->ram[0].base + offset;
    ret->end = ret->entry + size;
    return 0;
}

/* The file's length in bytes by the sections of an EFI program; 0 if it is none. */
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

/* `head`: the first `head_size` bytes, already read from `d`. */
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
        return log_refuse(EFAULT, "%s: no guest memory at %#llx", path,
                          (unsigned long long)kernel.entry);
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
    int error = unwrap_open(&d, image);

    if (error)
        return error;
    size = decompress_read(d, head, sizeof(head));
    error =
        size < 0 ? (int)size : arm64_load(image->path, head, (size_t)size, d, mem, hw, ret_kernel);
    decompress_close(d);
    return error;
}
