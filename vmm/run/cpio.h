/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_CPIO_H
#define VMM_RUN_CPIO_H

#include <stddef.h>

/*
 * An archive that the kernel unpacks as its first root (Linux: driver-api/early-userspace/
 * buffer-format.rst, "newc"). All is root's. Names are relative; directories come before what is in
 * them. What does not fit sets the buffer's `full`.
 */
struct buffer;

void cpio_add_directory(struct buffer *b, const char *name);
void cpio_add_file(struct buffer *b, const char *name, const void *bytes, size_t size,
                   unsigned mode);
void cpio_end(struct buffer *b);

#endif
