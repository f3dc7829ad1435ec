/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_VHOST_H
#define DEVICES_VIRTIO_VHOST_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"
#include "vmm/core/loop.h"
#include "vmm/core/memory.h"

/*
 * What devices have in common whose queues the host's kernel serves (vhost). It reads the rings,
 * hears the doorbells and raises the interrupts; what it moves between a queue and the world, and
 * from when on, is told by requests of each kind of device.
 *
 *     vhost_set_up()        with each driver, and after a pause
 *     vhost_give_queue()    where it is, and how far it has got
 *     ...                   the device's own request: it is served from here on ...
 *     ...                   and another one: not any more
 *     vhost_take_queue()    how far it has got
 *
 * On the device's loop, but for opening and closing. 0 or -errno; prints nothing.
 */
#define VHOST_MAX_QUEUES 2

struct vhost;

/* What goes wrong in a queue while vhost has it. */
struct vhost_fault {
    struct vhost *vhost;
    struct watch watch; /* an eventfd that vhost signals */
};

struct vhost {
    struct virtio_device *virtio;
    const struct guest_memory *mem;
    uint64_t features;    /* those that vhost must know of: it reads the rings */
    unsigned queue_count; /* the device's first ones */
    /* Has vhost let go of a queue, whether or not it has it. */
    void (*detach)(struct vhost *vhost, unsigned queue);
    int fd;
    bool owned; /* its thread exists: from the first driver on */
    struct vhost_fault faults[VHOST_MAX_QUEUES];
};

/*
 * Opens `path`, with all fields above `fd` set. -EOPNOTSUPP if it does not know the features. Ends
 * with vhost_close(), even if it fails.
 */
int vhost_open(struct vhost *vhost, const char *path);
void vhost_close(struct vhost *vhost);

int vhost_ioctl(struct vhost *vhost, unsigned long request, const void *arg);
/* A request about a queue and a descriptor. */
int vhost_set_file(struct vhost *vhost, unsigned long request, unsigned queue, int fd);

/* Tells it of guest memory and the driver's features. No queue is served. */
int vhost_set_up(struct vhost *vhost);
/* Tells it of a started queue that it does not serve, interrupts included. */
int vhost_give_queue(struct vhost *vhost, unsigned queue);
/* The reverse, once vhost has let go of it: its position is known, its call fd is put back. */
int vhost_take_queue(struct vhost *vhost, unsigned queue);

/* A queue that vhost stumbles over is detached and broken from now on. */
void vhost_watch(struct vhost *vhost);
/* No longer; with what was not heard yet. */
void vhost_unwatch(struct vhost *vhost);

#endif
