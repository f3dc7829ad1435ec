/* SPDX-License-Identifier: MIT */
#include "firmware/boot/uki.h"

#include <errno.h>
#include <string.h>

#include "firmware/boot/pe.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

static int uki_use_section(struct image *image, const struct pe_section *section)
{
    uint64_t offset = le32_load(&section->offset), size = le32_load(&section->size);
    uint64_t memory_size = le32_load(&section->memory_size);

    if (memory_size < size)
        size = memory_size; /* the rest fills up the file's last block */
    if (size == 0 || offset > image->size || size > image->size - offset)
        return log_refuse(EINVAL, "%s is truncated or damaged: its kernel is not in the file",
                          image->path);
    image->start += offset;
    image->size = size;
    return 0;
}

/* `at`: offset of the table of sections, at most a little above 4 GiB. */
static int uki_find_section(struct image *image, uint64_t at, unsigned count)
{
    struct pe_section section;

    for (unsigned i = 0; i < count; i++, at += sizeof(section)) {
        int error;

        if (at > image->size || image->size - at < sizeof(section))
            return 0; /* the loader knows better what is wrong with this file */
        if ((error = image_read(image, at, &section, sizeof(section))))
            return error;
        if (!memcmp(section.name, ".linux\0", sizeof(section.name)))
            return uki_use_section(image, &section);
    }
    return 0;
}

int uki_narrow(struct image *image)
{
    struct {
        char magic[PE_OFFSET];
        le32 pe_offset;
    } dos = { 0 };
    struct pe_header pe;
    uint64_t at;
    int error;

    if (image->size < sizeof(dos))
        return 0;
    if ((error = image_read(image, 0, &dos, sizeof(dos))))
        return error;
    at = le32_load(&dos.pe_offset);
    if (memcmp(dos.magic, "MZ", 2) || at > image->size || image->size - at < sizeof(pe))
        return 0;
    if ((error = image_read(image, at, &pe, sizeof(pe))))
        return error;
    if (memcmp(pe.magic, "PE\0", sizeof(pe.magic)))
        return 0;
    return uki_find_section(image, at + sizeof(pe) + le16_load(&pe.optional_size),
                            le16_load(&pe.sections));
}

int uki_open(struct image *ret_image, const char *path)
{
    struct image image;
    int error = image_open(&image, path);

    if (error)
        return error;
    error = uki_narrow(&image);
    if (error)
        image_close(&image);
    else
        *ret_image = image;
    return error;
}
