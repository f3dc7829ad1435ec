/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_BLOCK_H
#define DEVICES_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"
#include "vmm/core/sg.h"

/* A disk as the host has it: asynchronous requests, completed on a loop. See open.h. */
struct block;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

struct block_request {
    enum block_op op;
    bool durable;    /* a write, zeroes too, is done once it is on stable storage */
    bool unmap;      /* write zeroes: may also give the space back */
    uint64_t offset; /* bytes, within the disk; changes while submitted, as do the next two */
    uint64_t length; /* bytes; for read and write that of `data` */
    struct sg data;  /* for read and write */
    void (*done)(struct block_request *request, int error); /* 0 or -errno */
    struct block_request *next;                             /* the engine's while submitted */
};

struct block_ops {
    void (*submit)(struct block *block, struct block_request *request);
    void (*commit)(struct block *block);
    bool (*drain)(struct block *block, uint64_t deadline_ns);
    void (*close)(struct block *block);
};

struct block {
    const struct block_ops *ops;
    void (*completed)(void *owner); /* after one or more done(); set by whoever submits */
    void *owner;
    uint64_t calls;                       /* system calls made so far, on the loop or for it */
    uint64_t size;                        /* bytes, a multiple of 512 */
    uint32_t logical_size;                /* bytes: the smallest unit of I/O, 512 or more */
    uint32_t physical_size, optimal_size; /* bytes: units that are cheap; optimal may be 0 */
    bool read_only;
    bool can_discard;
};

static inline void block_close(struct block *block)
{
    if (block)
        block->ops->close(block);
}

/*
 * Queues a request; done() comes exactly once, later: from the loop, from block_commit() or from
 * block_drain().
 */
static inline void block_submit(struct block *block, struct block_request *request)
{
    block->ops->submit(block, request);
}

/* Starts what was submitted since the last commit, with one system call where the host can. */
static inline void block_commit(struct block *block)
{
    block->ops->commit(block);
}

#define BLOCK_NO_DEADLINE UINT64_MAX

/*
 * Waits until every submitted request is done. False if some are not at `deadline_ns`
 * (clock_now_ns()): they go on as if nobody had waited.
 */
static inline bool block_drain(struct block *block, uint64_t deadline_ns)
{
    return block->ops->drain(block, deadline_ns);
}

#endif
