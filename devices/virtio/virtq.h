/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_VIRTQ_H
#define DEVICES_VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/memory.h"
#include "vmm/core/sg.h"

#define VIRTQ_MAX_SIZE 256

/*
 * The device side of one split virtqueue (virtio 1.2, 2.7), and the only place that knows what a
 * descriptor is. No locks: it is used on its device's loop only. The life of a request:
 *
 *     while (virtq_pop(q, &chain))      the next request; every descriptor read once and checked
 *         ... sg_read(&chain.readable), sg_write(&chain.writable) ...
 *         virtq_push(q, &chain, n)      now or later, in any order: n bytes were written
 *     virtq_flush(q)                    publishes what was pushed; one interrupt for all
 *     virtq_enable_notification(q)      asks the driver to notify again
 *
 * If the driver violates the specification the queue is broken: pop() returns false, broken() is
 * called once, and all later calls do nothing until the queue is started again.
 */
struct virtq;

/*
 * One request. As in the specification, the device reads `readable` and writes `writable`. Every
 * buffer lies in guest RAM. The struct points into itself: do not copy it.
 */
struct virtq_chain {
    struct sg readable;
    struct sg writable;
    uint16_t head;
    struct iovec iov[VIRTQ_MAX_SIZE];
};

/* Called on the device's loop. */
struct virtq_owner_ops {
    void (*interrupt)(void *owner, struct virtq *q); /* the driver wants one for its used buffers */
    void (*broken)(void *owner, struct virtq *q, const char *why);
};

/* Where the driver put the rings; `size` is their number of entries, a power of two. */
struct virtq_layout {
    gpa_t desc, avail, used;
    uint16_t size;
    bool event_idx;
    bool indirect;
};

/* `mem`, `ops` and `owner` must outlive the queue. NULL: out of memory. */
struct virtq *virtq_create(const struct guest_memory *mem, const struct virtq_owner_ops *ops,
                           void *owner);
void virtq_destroy(struct virtq *q); /* accepts NULL */

/* -EINVAL: the specification forbids the size or alignment. -EFAULT: a ring is not in RAM. */
int virtq_start(struct virtq *q, const struct virtq_layout *layout);
void virtq_stop(struct virtq *q);
bool virtq_started(const struct virtq *q);

/* Host addresses of a started queue's rings, for a back-end (vhost) that serves it itself. */
struct virtq_rings {
    void *desc, *avail, *used;
};
struct virtq_rings virtq_rings(const struct virtq *q);

/* Takes the next request. False if there is none, or if this broke the queue. */
bool virtq_pop(struct virtq *q, struct virtq_chain *chain);

/* How many requests can be popped; 0 for a stopped, broken or paused queue. */
unsigned virtq_waiting(const struct virtq *q);

/* Undoes the last `count` pops: the same requests are popped again. Nothing was pushed since. */
void virtq_rewind(struct virtq *q, unsigned count);

/* Returns a request with `written` bytes filled in. The driver sees it after virtq_flush(). */
void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint32_t written);
/* virtq_push() for a caller that kept only the chain's head. */
void virtq_push_head(struct virtq *q, uint16_t head, uint32_t written);
/* Publishes used->idx, and calls interrupt() if the driver asked for one. */
void virtq_flush(struct virtq *q);

uint64_t virtq_completed(const struct virtq *q); /* requests pushed since virtq_create() */

/* Asks for a notification of the next request; false if one can be popped already. */
bool virtq_enable_notification(struct virtq *q);
/* Disables notifications again. A hint: the driver may still notify. */
void virtq_disable_notification(struct virtq *q);

/*
 * Flushes; then, until virtq_resume(), the queue looks empty and guest memory is neither read nor
 * written. Every popped request must have been pushed or rewound.
 */
void virtq_pause(struct virtq *q);
void virtq_resume(struct virtq *q);

/* The device's free-running indices into the rings of a paused or stopped queue. */
struct virtq_position {
    uint16_t next_avail, next_used;
};
struct virtq_position virtq_position(const struct virtq *q);
void virtq_set_position(struct virtq *q, struct virtq_position position);
/* Continues after another back-end (vhost) at `next_avail`, and at the used index in the ring. */
void virtq_adopt(struct virtq *q, uint16_t next_avail);

/* Breaks the queue. For a device whose driver sent a malformed request. */
void virtq_break(struct virtq *q, const char *why);

#endif
