/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_THROW_AWAY_H
#define DEVICES_BLOCK_THROW_AWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block;

/*
 * A disk whose writes stay in the memory of this process, above an image that is only read. What
 * was never written is read by the image's own requests; a discard makes the image show again. What
 * is written and in memory, in pages, is at most `max` bytes, maps included; a write beyond fails
 * with -ENOSPC. Beside that it takes a byte per 32 KiB of the disk at most, and page tables.
 *
 * `name` is for messages. It and `image`, open for reading, belong to the new block: closing it
 * closes the image. -errno, with `image` the caller's; prints nothing.
 */
int throw_away_create(struct block **ret, struct block *image, uint64_t max, const char *name);

/* A part of the disk that the guest has written. */
struct throw_away_piece {
    uint64_t offset;   /* bytes; as the length a multiple of 512 */
    const void *bytes; /* until the next request; NULL: all zero, and not in memory */
    size_t length;
};

/*
 * For whoever saves a drained disk: the first piece at or after *at, which then moves behind it.
 * False: there is none. A new disk gets the same contents by a write of each.
 */
bool throw_away_next(const struct block *block, uint64_t *at, struct throw_away_piece *ret);

#endif
