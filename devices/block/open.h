/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_OPEN_H
#define DEVICES_BLOCK_OPEN_H

#include <stdbool.h>
#include <stdint.h>

struct block;
struct loop;

enum block_engine { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_IO_URING, BLOCK_ENGINE_THREAD };

#define BLOCK_THROW_AWAY_MAX (1ull << 30)

struct block_options {
    const char *path;  /* a raw image or a block device */
    const char *place; /* what is opened instead, and called `path`; NULL: that */
    bool format_raw;   /* raw, even if it looks like another format (format.h) */
    bool read_only;
    bool throw_away; /* writes stay in memory (throw_away.h); the image is only read */
    uint64_t max;    /* bytes of that memory; 0: BLOCK_THROW_AWAY_MAX */
    bool direct;     /* O_DIRECT */
    enum block_engine engine;
};

/*
 * Opens and locks a disk and chooses its I/O engine. It must be a regular file or a block device,
 * of a size that is a multiple of 512 and not 0, raw, and not locked by another process: one may
 * write it, or any number read it. On failure prints why and returns -errno. The block is used on
 * `loop` only; open and close it while the loop does not run, or in a loop_call(). With throw_away,
 * `options->path` must outlive it.
 */
int block_open(struct block **ret, const struct block_options *options, struct loop *loop);

#endif
