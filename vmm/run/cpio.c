/* SPDX-License-Identifier: MIT */
#include "vmm/run/cpio.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "firmware/buffer.h"
#include "vmm/core/base.h"

#define ALIGNMENT 4
#define HEADER    110 /* bytes: a magic of 6, and 13 numbers in 8 hexadecimal digits each */

static void cpio_add(struct buffer *b, const char *name, unsigned mode, const void *bytes,
                     size_t size)
{
    char header[HEADER + 1];
    bool directory = S_ISDIR(mode);
    size_t length = strlen(name) + 1;

    if (size > UINT32_MAX) {
        b->full = true;
        return;
    }
    /* Inode 0 for all: a file with a link count of 1 is no hard link. */
    snprintf(header, sizeof(header), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
             0, mode, 0, 0, directory ? 2 : 1, 0, (unsigned)size, 0, 0, 0, 0, (unsigned)length, 0);
    buffer_put_text(b, header);
    buffer_put_bytes(b, name, length);
    buffer_align(b, ALIGNMENT);
    buffer_put_bytes(b, bytes, size);
    buffer_align(b, ALIGNMENT);
}

void cpio_add_directory(struct buffer *b, const char *name)
{
    cpio_add(b, name, S_IFDIR | 0755, "", 0);
}

void cpio_add_file(struct buffer *b, const char *name, const void *bytes, size_t size,
                   unsigned mode)
{
    cpio_add(b, name, S_IFREG | mode, bytes, size);
}

void cpio_end(struct buffer *b)
{
    cpio_add(b, "TRAILER!!!", 0, "", 0);
}
