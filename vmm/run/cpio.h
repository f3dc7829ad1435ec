/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_CPIO_H
#define VMM_RUN_CPIO_H

#include <stddef.h>

/*
 * Writes a cpio archive for an initramfs (Linux: driver-api/early-userspace/buffer-format.rst,
 * "newc"). root owns all files. Names are relative; a directory must be added before its files. If
 * the archive does not fit into the buffer, it is marked `full`.
 */
struct buffer;

void cpio_add_directory(struct buffer *b, const char *name);
void cpio_add_file(struct buffer *b, const char *name, const void *bytes, size_t size,
                   unsigned mode);
void cpio_end(struct buffer *b);

#endif
