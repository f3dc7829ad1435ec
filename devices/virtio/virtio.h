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
struct state;
struct virtio_device;

/*
 * What makes a device a disk, a NIC, ... Called on the device's loop, one call at a time, unless it
 * says otherwise: no device takes a lock. Entries that are NULL do nothing.
 */
struct virtio_ops {
    uint16_t type;        /* VIRTIO_ID_* */
    uint16_t queue_size;  /* at most VIRTQ_MAX_SIZE */
    uint16_t config_size; /* bytes, at most VIRTIO_MAX_CONFIG */

    /*
     * What is offered; VERSION_1, EVENT_IDX and INDIRECT_DESC are added by virtio.c. Any thread:
     * the same for as long as the device lives.
     */
    uint64_t (*features)(const struct virtio_device *v);
    void (*read_config)(struct virtio_device *v, void *config); /* fills config_size bytes */
    void (*write_config)(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value);
    void (*start)(struct virtio_device *v); /* the driver said DRIVER_OK; queues are started */
    void (*drain)(struct virtio_device *v); /* off the loop, before stop(): waits for output */
    void (*stop)(struct virtio_device *v);  /* ends with nothing in flight; may come unstarted */
    /*
     * The driver was up. Ends with nothing in flight at the host and nothing popped: what is not
     * done by itself is given back (virtq_rewind()) and remembered. May wait until `deadline_ns`;
     * false if that was not enough, and the device goes on as before.
     */
    bool (*pause)(struct virtio_device *v, uint64_t deadline_ns);
    /*
     * Goes on after pause(), or in a device just created whose state was loaded. Every queue is
     * kicked afterwards.
     */
    void (*resume)(struct virtio_device *v);
    /* Look at the queue: spurious at times. NULL: somebody else hears the doorbells. */
    void (*kick)(struct virtio_device *v, unsigned queue);
    uint64_t (*calls)(const struct virtio_device *v); /* system calls made so far for requests */
    void (*destroy)(struct virtio_device *v);         /* after stop(); frees the device */
};

/* A device's own fields, saved or loaded while it is paused. Any thread; no loop runs it. */
typedef void virtio_state_fn(struct virtio_device *v, struct state *s);

/* How a device reaches its guest. On the device's loop. */
struct virtio_transport_ops {
    void (*interrupt)(void *transport, unsigned queue); /* it has used buffers */
    void (*sync)(
        void *transport); /* status or configuration space have changed: shows the driver */
    void (*interrupt_config)(void *transport);
    /*
     * The call eventfd of a queue (VHOST_SET_VRING_CALL): until put_call_fd() the host's kernel
     * raises the queue's used-buffer interrupts by it, in place of interrupt().
     */
    int (*get_call_fd)(void *transport, unsigned queue);
    void (*put_call_fd)(void *transport, unsigned queue); /* does nothing if it was not got */
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
    virtio_state_fn *state;
    struct loop *loop;
    unsigned queue_count;
    bool paused;       /* or its state was just loaded; the loop's */
    bool config_due;   /* while paused the configuration changed */
    uint64_t features; /* as negotiated; fixed from FEATURES_OK on */
    unsigned status;   /* VIRTIO_CONFIG_S_*; atomic: NEEDS_RESET comes from the loop */
    unsigned warnings; /* for log_guest(); no reset clears it */
    const struct virtio_transport_ops *transport_ops; /* set by the transport */
    void *transport;
    struct virtio_queue queues[VIRTIO_MAX_QUEUES];
};

/*
 * For devices: first thing in their create(). `state` may not be NULL: virtio_no_state() for a
 * device without fields of its own that last. At most VIRTIO_MAX_QUEUES queues. `name` lives as
 * long as the device, which runs on `loop`, which outlives it. -ENOMEM or another -errno, with
 * nothing to undo and nothing printed.
 */
int virtio_init(struct virtio_device *v, const struct virtio_ops *ops, virtio_state_fn *state,
                unsigned queue_count, const char *name, const struct guest_memory *mem,
                struct loop *loop);
void virtio_no_state(struct virtio_device *v, struct state *s);

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

/* Queue set-up (4.1.4.3, 4.2.2). Ignored for a queue that does not exist or is in use. */
enum virtio_ring { VIRTIO_RING_DESC, VIRTIO_RING_AVAIL, VIRTIO_RING_USED };
unsigned virtio_queue_max(const struct virtio_device *v, unsigned index); /* 0: no such queue */
void virtio_set_queue_size(struct virtio_device *v, unsigned index, uint32_t size);
/* The low or high half of a ring's address. */
void virtio_set_queue_address(struct virtio_device *v, unsigned index, enum virtio_ring ring,
                              bool high, uint32_t half);
void virtio_set_queue_ready(struct virtio_device *v, unsigned index, bool ready);
bool virtio_queue_ready(const struct virtio_device *v, unsigned index);

/* Notifies the device of a queue. Any thread: a device, too, which goes on with its work later. */
void virtio_kick(struct virtio_device *v, unsigned index);
int virtio_kick_fd(const struct virtio_device *v, unsigned index); /* an eventfd that does so */

void virtio_read_config(struct virtio_device *v, void *config); /* on its loop; VIRTIO_MAX_CONFIG */
void virtio_write_config(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value);
void virtio_reset(struct virtio_device *v);

/* As struct device_ops has them. After a load the driver is told to read the configuration again.
 */
int virtio_pause(struct virtio_device *v, uint64_t deadline_ns);
void virtio_resume(struct virtio_device *v);
void virtio_state(struct virtio_device *v, struct state *s);

/* Adds to a zeroed *ret what the device has done. With its loop at rest. */
void virtio_count(const struct virtio_device *v, struct device_stats *ret);
void virtio_destroy(struct virtio_device *v); /* stops it, then ops->destroy(); accepts NULL */

#endif
