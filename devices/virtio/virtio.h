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
 * The part of virtio that all devices and transports share (virtio 1.2, 2 and 3): status, features,
 * queue set-up, reset. A transport decodes register accesses and calls the functions below; a
 * device implements struct virtio_ops.
 */
struct state;
struct virtio_device;

/*
 * One kind of device: disk, NIC, ... Called on the device's loop, one call at a time, unless stated
 * otherwise, so devices need no locks. NULL entries do nothing.
 */
struct virtio_ops {
    uint16_t type;        /* VIRTIO_ID_* */
    uint16_t queue_size;  /* at most VIRTQ_MAX_SIZE */
    uint16_t config_size; /* bytes, at most VIRTIO_MAX_CONFIG */

    /*
     * Offered features; virtio.c adds VERSION_1, EVENT_IDX and INDIRECT_DESC. Any thread. The
     * result never changes during the device's life.
     */
    uint64_t (*features)(const struct virtio_device *v);
    void (*read_config)(struct virtio_device *v, void *config); /* fills config_size bytes */
    void (*write_config)(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value);
    void (*start)(struct virtio_device *v); /* DRIVER_OK was set; the queues are started */
    void (*drain)(struct virtio_device *v); /* off the loop, before stop(): waits for output */
    void (*stop)(struct virtio_device *v);  /* waits for I/O in flight; also without a start() */
    /*
     * Called only with DRIVER_OK set. Waits until nothing is in flight at the host; requests that
     * will not complete by themselves are rewound (virtq_rewind()) and kept in the device's state.
     * False if that takes longer than `deadline_ns`: the device continues as before.
     */
    bool (*pause)(struct virtio_device *v, uint64_t deadline_ns);
    /* After pause(), or after loading the state into a new device. All queues are then kicked. */
    void (*resume)(struct virtio_device *v);
    /* A notification, maybe a spurious one. NULL: another back-end (vhost) gets the kick fds. */
    void (*kick)(struct virtio_device *v, unsigned queue);
    uint64_t (*calls)(const struct virtio_device *v); /* system calls made so far for requests */
    void (*destroy)(struct virtio_device *v);         /* after stop(); frees the device */
};

/* Saves or loads a device's own fields while it is paused. Any thread; its loop does not run it. */
typedef void virtio_state_fn(struct virtio_device *v, struct state *s);

/* How a device reaches its driver. Called on the device's loop. */
struct virtio_transport_ops {
    void (*interrupt)(void *transport, unsigned queue); /* the queue has used buffers */
    void (*sync)(void *transport); /* makes status and configuration space visible to the driver */
    void (*interrupt_config)(void *transport);
    /*
     * Returns the queue's call fd (VHOST_SET_VRING_CALL). Until put_call_fd() the host's kernel
     * raises the queue's used-buffer interrupts through it, and interrupt() is not called.
     */
    int (*get_call_fd)(void *transport, unsigned queue);
    void (*put_call_fd)(void *transport, unsigned queue); /* no effect without get_call_fd() */
};

#define VIRTIO_MAX_QUEUES 18 /* a console of 8 ports: a pair each, and control */
#define VIRTIO_MAX_CONFIG 64 /* bytes */

struct virtio_queue {
    struct virtio_device *device;
    struct virtq *virtq;
    struct virtq_layout layout; /* as written by the driver; read-only once `ready` */
    bool ready;                 /* QueueReady */
    struct watch kick;          /* the eventfd that QueueNotify signals */
    uint64_t kicks, interrupts; /* since virtio_init(); used on the loop */
};

struct virtio_device {
    const char *name; /* "blk0": the prefix of its messages */
    const struct virtio_ops *ops;
    virtio_state_fn *state;
    struct loop *loop;
    unsigned queue_count;
    bool paused;         /* or its state was just loaded; used on the loop */
    bool config_pending; /* the configuration changed while paused */
    uint64_t features;   /* as negotiated; fixed once FEATURES_OK is set */
    unsigned status;     /* VIRTIO_CONFIG_S_*; atomic: the loop sets NEEDS_RESET */
    unsigned warnings;   /* counter for log_guest()'s rate limit; kept over resets */
    const struct virtio_transport_ops *transport_ops; /* set by the transport */
    void *transport;
    struct virtio_queue queues[VIRTIO_MAX_QUEUES];
};

/*
 * For devices, at the start of create(). `state` must not be NULL: a device without state of its
 * own passes virtio_no_state(). At most VIRTIO_MAX_QUEUES queues. `name`, `mem` and `loop` must
 * outlive the device, which runs on `loop`. -errno on failure, with nothing to undo; prints
 * nothing.
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

/* Publishes a changed read_config() and interrupts the driver. On the device's loop. */
void virtio_config_changed(struct virtio_device *v);

/*
 * For transports: one call at a time, off the device's loop while that runs. Values the driver may
 * not write are ignored, as the specification requires.
 */
uint64_t virtio_offered_features(struct virtio_device *v);
void virtio_set_features(struct virtio_device *v, uint64_t features);
unsigned virtio_status(const struct virtio_device *v);
void virtio_set_status(struct virtio_device *v, unsigned status); /* 0 resets the device */

/* Queue set-up (4.1.4.3, 4.2.2). Ignored for a queue that does not exist or is ready. */
enum virtio_ring { VIRTIO_RING_DESC, VIRTIO_RING_AVAIL, VIRTIO_RING_USED };
unsigned virtio_queue_max(const struct virtio_device *v, unsigned index); /* 0: no such queue */
void virtio_set_queue_size(struct virtio_device *v, unsigned index, uint32_t size);
/* The low or high half of a ring's address. */
void virtio_set_queue_address(struct virtio_device *v, unsigned index, enum virtio_ring ring,
                              bool high, uint32_t half);
void virtio_set_queue_ready(struct virtio_device *v, unsigned index, bool ready);
bool virtio_queue_ready(const struct virtio_device *v, unsigned index);

/* Queues a kick() on the loop. Any thread; also a device that puts off the rest of its work. */
void virtio_kick(struct virtio_device *v, unsigned index);
int virtio_kick_fd(const struct virtio_device *v, unsigned index); /* the eventfd for ioeventfd */

void virtio_read_config(struct virtio_device *v, void *config); /* VIRTIO_MAX_CONFIG; on its loop */
void virtio_write_config(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value);
void virtio_reset(struct virtio_device *v);

/* As in struct device_ops. */
int virtio_pause(struct virtio_device *v, uint64_t deadline_ns);
void virtio_resume(struct virtio_device *v);
void virtio_state(struct virtio_device *v, struct state *s);

/* Adds the device's statistics to a zeroed *ret. Its loop must have ended. */
void virtio_count(const struct virtio_device *v, struct device_stats *ret);
void virtio_destroy(struct virtio_device *v); /* stops it, then ops->destroy(); accepts NULL */

#endif
