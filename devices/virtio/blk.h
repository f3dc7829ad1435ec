/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

struct block;
struct guest_memory;
struct loop;
struct virtio_device;

/*
 * A disk (virtio 1.2, 5.2) over `block`, which it takes over on success. `serial` is what the guest
 * gets for its id, 20 bytes at most; the name if it is empty. -errno, nothing printed.
 */
int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *block,
                      const char *serial, const struct guest_memory *mem, struct loop *loop);

#endif
