/* SPDX-License-Identifier: MIT */
#include "vmm/run/kernel.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "firmware/boot/decompress.h"
#include "firmware/boot/unwrap.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

/* Linux, Documentation/arch/x86/boot.rst */
#define BZIMAGE_HEADER 0x202
#define SECTOR         512

struct bzimage_header {
    char magic[4];
    le16 protocol, realmode_swtch[2], start_sys;
    le16 version; /* offset of the text from the end of the first sector */
};
static_assert(offsetof(struct bzimage_header, version) == 0x20e - BZIMAGE_HEADER, "as in boot.rst");

/* The kernel's first line (Linux: init/version-timestamp.c). */
#define BANNER      "Linux version "
#define BANNER_SIZE (sizeof(BANNER) - 1)
#define PIECE       (64 * KIB) /* bytes searched at once */
#define SEARCHED    (1 * GIB)  /* at most: far more than any kernel unpacks to */

/* Takes the first word of a text, if a space follows and it is a valid version. */
static bool kernel_take_version(char ret[KERNEL_VERSION_SIZE], const char *text)
{
    size_t length = strcspn(text, " ");

    if (!isdigit((unsigned char)text[0]) || length >= KERNEL_VERSION_SIZE || text[length] != ' ')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)text[i]) || text[i] == '/')
            return false;
    memcpy(ret, text, length);
    ret[length] = '\0';
    return true;
}

static int kernel_refuse(const struct image *kernel)
{
    return log_refuse(EINVAL, "%s has no Linux version in it; is it a Linux kernel?", kernel->path);
}

static int kernel_version_of_bzimage(char ret[KERNEL_VERSION_SIZE], const struct image *kernel,
                                     uint64_t offset)
{
    char text[KERNEL_VERSION_SIZE + 1] = "";
    uint64_t left = offset < kernel->size ? kernel->size - offset : 0;
    size_t size = left < KERNEL_VERSION_SIZE ? left : KERNEL_VERSION_SIZE;
    int error = image_read(kernel, offset, text, size);

    if (error)
        return error;
    return kernel_take_version(ret, text) ? 0 : kernel_refuse(kernel);
}

/* A NUL must follow the bytes. Skips banners without a version, such as format strings. */
static bool kernel_find_banner(char ret[KERNEL_VERSION_SIZE], const char *bytes, size_t size)
{
    const char *next = bytes;

    while ((next = memmem(next, size - (size_t)(next - bytes), BANNER, BANNER_SIZE))) {
        next += BANNER_SIZE;
        if (kernel_take_version(ret, next))
            return true;
    }
    return false;
}

/* Pieces overlap, because a banner may cross the end of one. */
static int kernel_search(char ret[KERNEL_VERSION_SIZE], const struct image *kernel,
                         struct decompressor *d)
{
    const size_t kept = BANNER_SIZE + KERNEL_VERSION_SIZE;
    cleanup_free char *bytes = calloc(1, kept + PIECE + 1);
    uint64_t searched = 0;
    int64_t got;

    if (!bytes)
        return log_error(ENOMEM, "read %s", kernel->path);
    while (searched < SEARCHED && (got = decompress_read(d, bytes + kept, PIECE)) > 0) {
        size_t size = kept + (size_t)got;

        bytes[size] = '\0';
        if (kernel_find_banner(ret, bytes, size))
            return 0;
        memmove(bytes, bytes + size - kept, kept);
        searched += (uint64_t)got;
    }
    return got < 0 ? (int)got : kernel_refuse(kernel);
}

int kernel_version(char ret[KERNEL_VERSION_SIZE], const struct image *kernel)
{
    struct bzimage_header header = { 0 };
    struct decompressor *d;
    int error = 0;

    if (kernel->size >= BZIMAGE_HEADER + sizeof(header))
        error = image_read(kernel, BZIMAGE_HEADER, &header, sizeof(header));
    if (error)
        return error;
    if (!memcmp(header.magic, "HdrS", 4) && le16_load(&header.version))
        return kernel_version_of_bzimage(ret, kernel, le16_load(&header.version) + SECTOR);

    error = unwrap_open(&d, kernel);
    if (error)
        return error;
    error = kernel_search(ret, kernel, d);
    decompress_close(d);
    return error;
}
