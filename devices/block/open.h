/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_OPEN_H
#define DEVICES_BLOCK_OPEN_H

#include <stdbool.h>

struct block;
struct loop;

enum block_engine { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_IO_URING, BLOCK_ENGINE_THREAD };

struct block_options {
    const char *path; /* a raw image or a block device */
    bool format_raw;  /* raw, even if it looks like another format (format.h) */
    bool read_only;
    bool direct; /* O_DIRECT */
    enum block_engine engine;
};

/*
 * Opens and locks a disk and chooses its I/O engine. It must be a regular file or a block device,
 * of a size that is a multiple of 512 and not 0, raw, and not locked by another process. On failure
 * prints why and returns -errno. The block is used on `loop` only; open and close it while the loop
 * does not run, or in a loop_call().
 */
int block_open(struct block **ret, const struct block_options *options, struct loop *loop);

#endif
