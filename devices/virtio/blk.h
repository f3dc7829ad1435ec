/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

struct block;
struct guest_memory;
struct loop;
struct virtio_device;

/*
 * A disk (virtio 1.2, 5.2) over `block`, whose ownership it takes on success. `serial` answers
 * GET_ID, at most 20 bytes; if empty `name` does. `poll_us` is how long the device polls for the
 * next request before it sleeps, in microseconds; -1: adaptive polling. -errno; prints nothing.
 */
int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *block,
                      const char *serial, int poll_us, const struct guest_memory *mem,
                      struct loop *loop);

#endif
