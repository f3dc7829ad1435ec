/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_VHOST_H
#define DEVICES_VIRTIO_VHOST_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"
#include "vmm/core/loop.h"
#include "vmm/core/memory.h"

/*
 * The part of vhost that all kinds of devices share. The host's kernel serves the queues: it reads
 * the rings, receives the notifications and raises the interrupts. A back-end of its own for each
 * kind of device (vhost-net: a tap) is set and unset by the device's own ioctls:
 *
 *     vhost_set_up()        for each driver, and after a pause
 *     vhost_start_queue()    VHOST_SET_VRING_*
 *     ...                   set the back-end: the kernel serves the queue ...
 *     ...                   unset it: the kernel has finished with the queue
 *     vhost_stop_queue()    VHOST_GET_VRING_BASE
 *
 * All but vhost_open() and vhost_close() run on the device's loop. 0 or -errno; prints nothing.
 */
#define VHOST_MAX_QUEUES 2

struct vhost;

/* A queue's error fd (VHOST_SET_VRING_ERR): vhost signals it when it cannot serve the queue. */
struct vhost_error_fd {
    struct vhost *vhost;
    struct watch watch;
};

struct vhost {
    struct virtio_device *virtio;
    const struct guest_memory *mem;
    uint64_t features;    /* those vhost must support, as they change the rings' format */
    unsigned queue_count; /* vhost serves the device's queues from 0 on */
    /* Unsets a queue's back-end; no effect if it has none. */
    void (*detach)(struct vhost *vhost, unsigned queue);
    int fd;
    bool owned; /* VHOST_SET_OWNER was done, at the first driver: the kernel's thread exists */
    struct vhost_error_fd error_fds[VHOST_MAX_QUEUES];
};

/*
 * Opens `path`. The caller has set all fields above `fd`, and calls vhost_close() even after an
 * error. -EOPNOTSUPP if the host does not support the features.
 */
int vhost_open(struct vhost *vhost, const char *path);
void vhost_close(struct vhost *vhost);

int vhost_ioctl(struct vhost *vhost, unsigned long request, const void *arg);
/* An ioctl with a struct vhost_vring_file. */
int vhost_set_file(struct vhost *vhost, unsigned long request, unsigned queue, int fd);

/* Sets owner, guest memory and the driver's features. No queue has a back-end. */
int vhost_set_up(struct vhost *vhost);
/* Sets size, position, rings, kick, call and error fd of a started queue without a back-end. */
int vhost_start_queue(struct vhost *vhost, unsigned queue);
/* Undoes that after detach(): gets the queue's position and puts its call fd back. */
int vhost_stop_queue(struct vhost *vhost, unsigned queue);

/* Watches the error fds: a queue that vhost reports is detached and broken. */
void vhost_watch_errors(struct vhost *vhost);
/* Ends that and discards pending errors. */
void vhost_unwatch_errors(struct vhost *vhost);

#endif
