/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

struct block;
struct guest_memory;
struct loop;
struct virtio_device;

/*
 * A disk (virtio 1.2, 5.2) over `block`, which it takes over on success. `serial` is what the guest
 * gets for its id, 20 bytes at most; the name if it is empty. `poll_us` is how many microseconds to
 * poll for the next request before sleeping; -1: adaptive. -errno, nothing printed.
 */
int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *block,
                      const char *serial, int poll_us, const struct guest_memory *mem,
                      struct loop *loop);

#endif
