/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_VIRTIO_H
#define GUESTS_LIB_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "lib/guest.h"

/*
 * A virtio-mmio driver as honest or as hostile as the payload likes: every register, descriptor and
 * ring index can be set to anything. The helpers on top do what an honest driver does.
 */
#define QUEUE_SIZE 16

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags; /* VRING_DESC_F_* */
    uint16_t next;
};

struct used_entry {
    uint32_t id, len;
};

/* The three parts of a virtqueue as they lie in memory. */
struct queue {
    _Alignas(16) struct descriptor desc[QUEUE_SIZE];
    volatile struct {
        uint16_t flags, idx, ring[QUEUE_SIZE], used_event;
    } avail;
    volatile struct {
        _Alignas(4) uint16_t flags;
        uint16_t idx;
        struct used_entry ring[QUEUE_SIZE];
        uint16_t avail_event;
    } used;
    uint16_t seen; /* the driver's own: used entries taken */
};

struct virtio {
    uintptr_t base;
    uint32_t id; /* VIRTIO_ID_* */
};

/* What is where, for layouts that are not the queue's own. */
struct queue_place {
    uint64_t desc, avail, used;
    uint32_t size;
};

uint32_t virtio_get(const struct virtio *v, unsigned reg);
void virtio_set(const struct virtio *v, unsigned reg, uint32_t value);
uint32_t virtio_status(const struct virtio *v);
void virtio_add_status(const struct virtio *v, uint32_t bits);

/* The n-th device of this kind; the payload ends if there is none. */
struct virtio virtio_find(uint32_t id, unsigned n);

void virtio_reset(const struct virtio *v);
uint64_t virtio_offered(const struct virtio *v);

/* From reset to FEATURES_OK: did the device take it? */
bool virtio_accept(const struct virtio *v, uint64_t features);

/* Describes a queue and makes it ready. */
struct queue_place queue_place(const struct queue *q);
void virtio_place_queue(const struct virtio *v, unsigned index, const struct queue_place *place);
void virtio_add_queue(const struct virtio *v, unsigned index, struct queue *q); /* emptied first */
void virtio_drive(const struct virtio *v);                                      /* DRIVER_OK */

/* All of it: reset, every offered feature of `mask`, `count` queues, DRIVER_OK. */
void virtio_start(const struct virtio *v, uint64_t mask, struct queue *queues, unsigned count);

void virtio_notify(const struct virtio *v, unsigned index);

/* Has the device asked to be reset? Waits for it; false when it does not. */
bool virtio_gives_up(const struct virtio *v);

void queue_describe(struct queue *q, unsigned index, const volatile void *buffer, uint32_t len,
                    unsigned flags, unsigned next);
void queue_offer(struct queue *q, unsigned head);

/* Waits for the next used entry, which must be `head`'s; the bytes written. */
uint32_t queue_wait(struct queue *q, unsigned head);

/* One request of one readable part and one writable part, either of which may be empty. */
struct request {
    const volatile void *out;
    uint32_t out_size;
    volatile void *in;
    uint32_t in_size;
};
void queue_submit(struct queue *q, const struct request *request); /* at head 0 */

#endif
