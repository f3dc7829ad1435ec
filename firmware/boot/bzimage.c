/* SPDX-License-Identifier: MIT */
#include "firmware/boot/bzimage.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

/* Linux, Documentation/arch/x86/boot.rst */
#define HEADER_OFFSET     0x1f1
#define BOOT_FLAG         0xaa55
#define BOOT_FLAG_OFFSET  0x1fe
#define HEADER_MAGIC      0x53726448 /* "HdrS" */
#define MAGIC_OFFSET      0x202
#define JUMP_TARGET       0x202 /* the jump is relative to here; it ends the header */
#define PROTOCOL_2_12     0x20c
#define ENTRY_64          0x200
#define SECTOR            512
#define DEFAULT_SECTORS   4
#define PARAGRAPH         16
#define LAST_FIELD_NEEDED offsetof(struct setup_header, handover_offset)

bool bzimage_match(const uint8_t *head)
{
    const uint8_t boot_flag[2] = { 0x55, 0xaa };

    return !memcmp(head + BOOT_FLAG_OFFSET, boot_flag, 2) &&
           !memcmp(head + MAGIC_OFFSET, "HdrS", 4);
}

/* The header's length, as its jump instruction gives it. */
static size_t bzimage_header_size(const struct setup_header *header)
{
    size_t size = JUMP_TARGET - HEADER_OFFSET + (header->jump >> 8);

    return size < sizeof(*header) ? size : sizeof(*header);
}

/* What is wrong with the header, as the end of a message; NULL: nothing. */
static const char *bzimage_check(const struct setup_header *header)
{
    if (header->boot_flag != BOOT_FLAG || header->header != HEADER_MAGIC)
        return "has no Linux boot header; name a bzImage";
    if (!(header->loadflags & LOADED_HIGH))
        return "is a zImage; build a bzImage";
    if (header->version < PROTOCOL_2_12)
        return "is older than Linux 3.8, too old for the 64-bit boot protocol";
    if (bzimage_header_size(header) < LAST_FIELD_NEEDED)
        return "is damaged: its boot header is too short";
    if (!(header->xloadflags & XLF_KERNEL_64))
        return "is a 32-bit kernel; name one for x86_64";
    return NULL;
}

int bzimage_read_header(const struct image *image, struct setup_header *ret_header)
{
    const char *problem;
    size_t size;
    int error = image_read(image, HEADER_OFFSET, ret_header, sizeof(*ret_header));

    if (error)
        return error;
    problem = bzimage_check(ret_header);
    if (problem)
        return log_refuse(EINVAL, "%s %s", image->path, problem);

    size = bzimage_header_size(ret_header);
    memset((char *)ret_header + size, 0, sizeof(*ret_header) - size);
    return 0;
}

/*
 * Finds the kernel's bytes, those after the setup sectors. syssize counts paragraphs, the last one
 * perhaps in part. A file may go on after the kernel (a signature, a partition's padding): what
 * exceeds both sizes in the header is not loaded.
 */
static int bzimage_measure(const struct image *image, const struct setup_header *header,
                           uint64_t *ret_setup, uint64_t *ret_size)
{
    uint64_t setup =
        (header->setup_sects ? header->setup_sects + 1u : DEFAULT_SECTORS + 1u) * SECTOR;
    uint64_t needed = (uint64_t)header->syssize * PARAGRAPH;
    uint64_t limit = needed > header->init_size ? needed : header->init_size;
    uint64_t size = image->size > setup ? image->size - setup : 0;

    if (size == 0 || align_up(size, PARAGRAPH) < needed)
        return log_refuse(EINVAL, "%s is truncated: has %llu bytes, should have %llu", image->path,
                          (unsigned long long)image->size, (unsigned long long)(setup + needed));
    *ret_setup = setup;
    *ret_size = size < limit ? size : limit;
    return 0;
}

int bzimage_load(const struct image *image, struct guest_memory *mem, const struct hardware *hw,
                 struct pc_kernel *ret_kernel, struct setup_header *ret_header)
{
    struct setup_header header;
    uint64_t setup_size = 0, size = 0, memory;
    int error = bzimage_read_header(image, &header);

    if (error)
        return error;
    error = bzimage_measure(image, &header, &setup_size, &size);
    if (error)
        return error;

    /* At its preferred address it does not relocate itself, which would touch more pages. */
    memory = size > header.init_size ? size : header.init_size;
    error = pc_check_kernel(hw, image, header.pref_address, memory);
    if (error)
        return error;
    error = image_load(image, setup_size, size, mem, header.pref_address);
    if (error)
        return error;

    *ret_header = header;
    *ret_kernel = (struct pc_kernel){
        .entry = header.pref_address + ENTRY_64,
        .end = header.pref_address + memory,
        .initrd_end = header.initrd_addr_max + 1ull,
        .cmdline_size = header.cmdline_size,
    };
    return 0;
}
