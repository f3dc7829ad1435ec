/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_OPEN_H
#define DEVICES_BLOCK_OPEN_H

#include <stdbool.h>

struct block;
struct loop;

enum block_engine { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_IO_URING, BLOCK_ENGINE_THREAD };

struct block_options {
    const char *path; /* of a raw image or a block device */
    bool read_only;
    bool direct; /* O_DIRECT */
    enum block_engine engine;
};

/*
 * Opens and locks a disk and chooses the engine that does its I/O. Refused, with one line printed:
 * no file, a directory, FIFO or the like, size 0 or no multiple of 512, locked by another. -errno.
 * The block is used on `loop` only, but opened and closed while the loop does not run or from
 * loop_call().
 */
int block_open(struct block **ret, const struct block_options *options, struct loop *loop);

#endif
