/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/virtq.h"
#include "vmm/core/device.h"
#include "vmm/core/loop.h"

/*
 * What virtio's registers mean (virtio 1.2, 2 and 3): status, features, queue set-up, reset. A
 * transport decodes an access and calls this; a device implements struct virtio_ops.
 */
struct virtio_device;

/*
 * What makes a device a disk, a network card, ... Called on the device's loop, one call at a time:
 * no device takes a lock. Entries that are NULL do nothing.
 */
struct virtio_ops {
    uint16_t type;        /* VIRTIO_ID_* */
    uint16_t queues;      /* at most VIRTIO_MAX_QUEUES */
    uint16_t queue_size;  /* at most VIRTQ_MAX_SIZE */
    uint16_t config_size; /* bytes, at most VIRTIO_MAX_CONFIG */

    /* What is offered; VERSION_1, EVENT_IDX and INDIRECT_DESC are added by virtio.c. */
    uint64_t (*features)(struct virtio_device *v);
    void (*read_config)(struct virtio_device *v, void *config); /* fills config_size bytes */
    void (*write_config)(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value);
    void (*start)(struct virtio_device *v);  /* the driver said DRIVER_OK; queues are started */
    void (*settle)(struct virtio_device *v); /* before stop(), not on the loop: may wait for it */
    void (*stop)(struct virtio_device *v);   /* ends with nothing in flight; may come unstarted */
    /* Look at the queue: spurious at times. NULL: somebody else hears the doorbells. */
    void (*kick)(struct virtio_device *v, unsigned queue);
    uint64_t (*calls)(const struct virtio_device *v); /* system calls made so far for requests */
    void (*destroy)(struct virtio_device *v);         /* after stop(); frees the device */
};

/* How a device reaches its guest. On the device's loop. */
struct virtio_transport_ops {
    void (*interrupt)(void *transport, unsigned queue); /* it has used buffers */
    void (*show)(void *transport); /* status or configuration space are other than before */
    void (*interrupt_config)(void *transport);
    /* Returns the eventfd that interrupts the guest for used buffers: until it is taken back,
     * whoever uses them (the host's kernel) signals it in place of a call of interrupt(). */
    int (*lend_interrupt)(void *transport);
    void (*take_back_interrupt)(void *transport); /* or it was not lent */
};

#define VIRTIO_MAX_QUEUES 18
#define VIRTIO_MAX_CONFIG 64 /* bytes */

struct virtio_queue {
    struct virtio_device *device;
    struct virtq *virtq;
    struct virtq_layout layout; /* as the driver writes it; frozen once `ready` */
    bool ready;
    struct watch kick;          /* an eventfd: the doorbell */
    uint64_t kicks, interrupts; /* so far, of every driver: the loop's */
};

struct virtio_device {
    const char *name; /* "blk0": in front of what it logs */
    const struct virtio_ops *ops;
    struct loop *loop;
    uint64_t features; /* as negotiated; fixed from FEATURES_OK on */
    unsigned status;   /* VIRTIO_CONFIG_S_*; atomic: NEEDS_RESET comes from the loop */
    unsigned told;     /* for log_guest(); no reset clears it */
    const struct virtio_transport_ops *transport_ops; /* set by the transport */
    void *transport;
    struct virtio_queue queues[VIRTIO_MAX_QUEUES];
};

/*
 * For devices: first thing in their create(). `name` lives as long as the device. The device runs
 * on `loop`, which outlives it. -ENOMEM or another -errno, with nothing to undo and nothing
 * printed.
 */
int virtio_init(struct virtio_device *v, const struct virtio_ops *ops, const char *name,
                const struct guest_memory *mem, struct loop *loop);

/* The virtqueue for pop, push and flush, on the device's loop. */
static inline struct virtq *virtio_virtq(struct virtio_device *v, unsigned index)
{
    return v->queues[index].virtq;
}

static inline bool virtio_has_feature(const struct virtio_device *v, unsigned bit)
{
    return v->features >> bit & 1;
}

/* What read_config() fills in has changed: shows it, and tells the driver. On the device's loop. */
void virtio_config_changed(struct virtio_device *v);

/*
 * For transports, one call at a time, not on the device's loop unless nothing else runs. Values
 * the driver must not write are ignored, as the specification asks for.
 */
uint64_t virtio_offered_features(struct virtio_device *v);
void virtio_set_features(struct virtio_device *v, uint64_t features);
unsigned virtio_status(const struct virtio_device *v);
void virtio_set_status(struct virtio_device *v, unsigned status); /* 0 resets the device */
void virtio_set_queue_ready(struct virtio_device *v, unsigned index, bool ready);
/* May the driver still describe this queue? False for one that does not exist. */
bool virtio_queue_open(const struct virtio_device *v, unsigned index);
/* Rings a queue's doorbell. Any thread: a device, too, which goes on with its work later. */
void virtio_kick(struct virtio_device *v, unsigned index);
void virtio_read_config(struct virtio_device *v, void *config); /* on its loop; VIRTIO_MAX_CONFIG */
void virtio_write_config(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value);
void virtio_reset(struct virtio_device *v);
/* Adds to a zeroed *ret what the device has done. With its loop at rest. */
void virtio_count(const struct virtio_device *v, struct device_stats *ret);
void virtio_destroy(struct virtio_device *v); /* stops it, then ops->destroy(); accepts NULL */

#endif
