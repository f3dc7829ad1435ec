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
 * descriptor is. Not locked: it belongs to its device's loop. The life of a request:
 *
 *     while (virtq_pop(q, &chain))      the next request; every descriptor read once and checked
 *         ... sg_read(&chain.readable), sg_write(&chain.writable) ...
 *         virtq_push(q, &chain, n)      now or later, in any order: n bytes were written
 *     virtq_flush(q)                    shows the guest what was pushed; one interrupt for all
 *     virtq_enable_notification(q)      asks to be kicked again
 *
 * A guest that breaks the rules loses the queue: pop() gives false, broken() is called once, and
 * everything after that does nothing until the queue is started again.
 */
struct virtq;

/*
 * One request. Readable and writable are meant from the device, as in the specification. Every
 * buffer lies in guest RAM. Points into itself: do not copy, and do not move before the push.
 */
struct virtq_chain {
    struct sg readable;
    struct sg writable;
    uint16_t head;
    struct iovec iov[VIRTQ_MAX_SIZE];
};

struct virtq_owner_ops {
    void (*interrupt)(void *owner, struct virtq *q);
    void (*broken)(void *owner, struct virtq *q, const char *why);
};

/* Where the driver put the rings, and how many entries they have: a power of two. */
struct virtq_layout {
    gpa_t desc, avail, used;
    uint16_t size;
    bool event_idx;
    bool indirect;
};

struct virtq *virtq_create(const struct guest_memory *mem, const struct virtq_owner_ops *ops,
                           void *owner);
void virtq_destroy(struct virtq *q); /* accepts NULL */

/* -EINVAL: a size or alignment the specification forbids. -EFAULT: not in RAM. */
int virtq_start(struct virtq *q, const struct virtq_layout *layout);
void virtq_stop(struct virtq *q);
bool virtq_started(const struct virtq *q);

/* Host addresses of a started queue's rings, for a back-end that serves the queue itself (vhost).
 */
struct virtq_rings {
    void *desc, *avail, *used;
};
struct virtq_rings virtq_rings(const struct virtq *q);

/* The next request, or false: nothing to do, or broken() was called. */
bool virtq_pop(struct virtq *q, struct virtq_chain *chain);

/* How many requests wait to be popped; 0 for a broken queue. */
unsigned virtq_waiting(const struct virtq *q);

/* Takes back the last `count` pops, with nothing pushed since: the same requests come again. */
void virtq_rewind(struct virtq *q, unsigned count);

/* Gives a request back with `written` bytes filled in; the guest sees it after virtq_flush(). */
void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint32_t written);
/* virtq_push() for a caller that kept only the head. */
void virtq_push_head(struct virtq *q, uint16_t head, uint32_t written);
void virtq_flush(struct virtq *q);

uint64_t virtq_completed(const struct virtq *q); /* how many were given back since its creation */

/* Asks for a kick on the next request; false if one is already waiting. */
bool virtq_enable_notification(struct virtq *q);
/* Disables notifications again. A hint: the driver may still notify. */
void virtq_disable_notification(struct virtq *q);

/*
 * Until virtq_resume() the queue looks empty, and nothing in guest memory is read or written. With
 * nothing popped that was not pushed; flushes first.
 */
void virtq_pause(struct virtq *q);
void virtq_resume(struct virtq *q);

/* How far a paused or stopped queue has got: its own indices into the rings. */
struct virtq_position {
    uint16_t next_avail, next_used;
};
struct virtq_position virtq_position(const struct virtq *q);
void virtq_set_position(struct virtq *q, struct virtq_position position);
/* Somebody else has served it, up to `next_avail`; what was used is told by the ring. */
void virtq_adopt(struct virtq *q, uint16_t next_avail);

/* For a device that finds the contents of a request against the rules of its own queue. */
void virtq_break(struct virtq *q, const char *why);

#endif
