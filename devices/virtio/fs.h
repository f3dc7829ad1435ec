/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_FS_H
#define DEVICES_VIRTIO_FS_H

struct guest_memory;
struct loop;
struct share;
struct virtio_device;

/*
 * A shared directory (virtio 1.2, 5.11) that the guest mounts as `tag`, at most 36 bytes. Takes
 * ownership of `share` on success. Requests are served on the loop, one at a time, and may block on
 * the host's disk. -errno; prints nothing.
 */
int virtio_fs_create(struct virtio_device **ret, const char *name, const char *tag,
                     struct share *share, const struct guest_memory *mem, struct loop *loop);

#endif
