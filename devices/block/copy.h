/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_COPY_H
#define DEVICES_BLOCK_COPY_H

#include <stddef.h>
#include <stdint.h>

/* Writes all of the bytes, for a copy of a disk. -errno. */
int copy_write(int to, const uint8_t *bytes, size_t count, uint64_t offset);

#endif
