/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_RAW_H
#define DEVICES_BLOCK_RAW_H

#include "devices/block/block.h"

/*
 * A raw image or block device. One of two engines does its I/O: raw_uring.c through io_uring,
 * raw_sync.c with a blocking system call for each request. open.c chooses one; raw.c has what both
 * need.
 */
struct raw {
    struct block block; /* with the engine's ops */
    struct loop *loop;
    int fd;
    uint32_t align; /* bytes: the alignment of buffers and offsets for O_DIRECT; 0 without it */
};

/* The new block is a copy of `raw`, and owns raw->fd on success. -errno; prints nothing. */
int raw_uring_create(struct block **ret, const struct raw *raw);
int raw_sync_create(struct block **ret, const struct raw *raw);

/* Of both engines' ops; see block_copy() and block_descriptor(). */
int raw_copy(const struct block *block, int to, uint64_t max);
int raw_descriptor(const struct block *block);

/* Executes one request with blocking calls; 0 or -errno. Does not call done(). */
int raw_perform(const struct raw *raw, struct block_request *request);

/*
 * Advances a request after a read or write that returned `bytes` (or -errno). True if there is more
 * to do; false, with *ret_error set, when the request is complete.
 */
bool raw_advance(struct block_request *request, ssize_t bytes, int *ret_error);

/* Does the request take several system calls? Then io_uring cannot do it, only raw_perform(). */
bool raw_is_compound(const struct raw *raw, const struct block_request *request);

#endif
