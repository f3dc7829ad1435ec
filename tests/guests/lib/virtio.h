/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_LIB_VIRTIO_H
#define GUESTS_LIB_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "lib/guest.h"

/*
 * A virtio-mmio driver for valid and hostile payloads: every register, descriptor and ring index
 * can be set to any value. virtio_start() and queue_submit() do what a correct driver does.
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

/* The three parts of a split virtqueue. */
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
    uint16_t seen; /* private: used entries taken, like last_used_idx in Linux */
};

struct virtio {
    uintptr_t base;
    uint32_t id; /* VIRTIO_ID_* */
};

/* Addresses and size to configure, which need not be those of a struct queue. */
struct queue_layout {
    uint64_t desc, avail, used;
    uint32_t size;
};

uint32_t virtio_get(const struct virtio *v, unsigned reg);
void virtio_set(const struct virtio *v, unsigned reg, uint32_t value);
uint32_t virtio_status(const struct virtio *v);
void virtio_add_status(const struct virtio *v, uint32_t bits);

/* The n-th device of this kind; exits if there is none. */
struct virtio virtio_find(uint32_t id, unsigned n);

void virtio_reset(const struct virtio *v);
uint64_t virtio_device_features(const struct virtio *v);

/* From reset to FEATURES_OK; true if the device accepted the features. */
bool virtio_negotiate(const struct virtio *v, uint64_t features);

/* Set a queue's size and addresses, and QueueReady. */
struct queue_layout queue_layout(const struct queue *q);
void virtio_set_up_queue(const struct virtio *v, unsigned index, const struct queue_layout *place);
void virtio_add_queue(const struct virtio *v, unsigned index, struct queue *q); /* emptied first */
void virtio_driver_ok(const struct virtio *v);                                  /* DRIVER_OK */

/* Reset, negotiation of the offered features in `mask`, `count` queues, DRIVER_OK. */
void virtio_start(const struct virtio *v, uint64_t mask, struct queue *queues, unsigned count);

void virtio_notify(const struct virtio *v, unsigned index);

/* Waits for DEVICE_NEEDS_RESET; false after WAIT_MS without it. */
bool virtio_needs_reset(const struct virtio *v);

void queue_describe(struct queue *q, unsigned index, const volatile void *buffer, uint32_t len,
                    unsigned flags, unsigned next);
void queue_offer(struct queue *q, unsigned head);

/* Waits for the next used entry, which must be `head`'s. Returns its length. */
uint32_t queue_wait(struct queue *q, unsigned head);

/* A request with a readable and a writable buffer, either of which may be empty. */
struct request {
    const volatile void *out;
    uint32_t out_size;
    volatile void *in;
    uint32_t in_size;
};
void queue_submit(struct queue *q, const struct request *request); /* at head 0 */

#endif
