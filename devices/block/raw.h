/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_RAW_H
#define DEVICES_BLOCK_RAW_H

#include "devices/block/block.h"

/*
 * A raw image or block device. One of two engines does its I/O: raw_uring.c hands requests to the
 * kernel's ring, raw_sync.c does each with a blocking system call. open.c chooses; raw.c has what
 * both need.
 */
struct raw {
    struct block block; /* ops are the engine's */
    struct loop *loop;
    int fd;
    uint32_t align; /* bytes: O_DIRECT wants buffers at multiples; 0 without */
};

/* A copy of `raw`, which then owns the descriptor. -errno, nothing printed. */
int raw_uring_create(struct block **ret, const struct raw *raw);
int raw_sync_create(struct block **ret, const struct raw *raw);

/* Does one request with blocking calls; 0 or -errno. Does not call done(). */
int raw_perform(const struct raw *raw, struct block_request *request);

/*
 * Accounts for `bytes` of a read or write that the kernel did. True if more is left to do; false
 * with *ret_error set when the request is over.
 */
bool raw_advance(struct block_request *request, ssize_t bytes, int *ret_error);

/* Does it take more than one operation of the kernel's? Then only raw_perform() can do it. */
bool raw_is_compound(const struct raw *raw, const struct block_request *request);

#endif
