/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_BLOCK_BLOCK_H
#define DEVICES_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"
#include "vmm/core/sg.h"

/*
 * A disk's back-end: asynchronous requests, completed on a loop. block_open() (open.h) opens it and
 * says on which threads it may be used.
 */
struct block;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

struct block_request {
    enum block_op op;
    bool durable; /* for write and write zeroes: done once the data is on stable storage */
    bool unmap;   /* for write zeroes: may deallocate the range */
    /* The engine changes these three while the request is submitted. */
    uint64_t offset; /* bytes, within the disk */
    uint64_t length; /* bytes; for read and write the length of `data` */
    struct sg data;  /* for read and write; must stay valid until done() */
    void (*done)(struct block_request *request, int error); /* 0 or -errno; on the loop */
    struct block_request *next;                             /* for the engine */
};

struct block_ops {
    void (*submit)(struct block *block, struct block_request *request);
    void (*commit)(struct block *block);
    bool (*drain)(struct block *block, uint64_t deadline_ns);
    void (*close)(struct block *block);
    int (*copy)(const struct block *block, int to, uint64_t max);
    int (*descriptor)(const struct block *block);
    int (*rewind)(struct block *block); /* NULL: what is written stays */
};

struct block {
    const struct block_ops *ops;
    void (*completed)(void *owner); /* after one or more done(); set by the user of the block */
    void *owner;
    uint64_t calls;                       /* system calls made so far for requests */
    uint64_t size;                        /* bytes, a multiple of 512 */
    uint32_t logical_size;                /* bytes: the smallest unit of I/O, at least 512 */
    uint32_t physical_size, optimal_size; /* bytes: efficient units of I/O; optimal may be 0 */
    bool read_only;
    bool can_discard;
};

static inline void block_close(struct block *block)
{
    if (block)
        block->ops->close(block);
}

/*
 * Queues a request. done() is called exactly once: from the loop, block_commit() or block_drain(),
 * never from here.
 */
static inline void block_submit(struct block *block, struct block_request *request)
{
    block->ops->submit(block, request);
}

/* Starts the requests submitted since the last commit, with a single system call if possible. */
static inline void block_commit(struct block *block)
{
    block->ops->commit(block);
}

/*
 * Copies a drained disk to an empty file: shares the image's blocks where the file system can
 * (FICLONE), else writes what is not a hole. -EFBIG: more than `max` bytes to write; or another
 * -errno. Any thread, while nobody submits.
 */
static inline int block_copy(const struct block *block, int to, uint64_t max)
{
    return block->ops->copy(block, to, max);
}

/* The image's descriptor, still the block's: to tell which file it is. */
static inline int block_descriptor(const struct block *block)
{
    return block->ops->descriptor(block);
}

static inline bool block_can_rewind(const struct block *block)
{
    return block->read_only || block->ops->rewind;
}

/* Makes a drained disk, if it can, what it was when it was opened. -errno. As block_copy(). */
static inline int block_rewind(struct block *block)
{
    return block->read_only ? 0 : block->ops->rewind(block);
}

#define BLOCK_NO_DEADLINE UINT64_MAX

/*
 * Waits until all submitted requests are done. False at `deadline_ns` (clock_now_ns()): the rest
 * continues and completes later.
 */
static inline bool block_drain(struct block *block, uint64_t deadline_ns)
{
    return block->ops->drain(block, deadline_ns);
}

#endif
