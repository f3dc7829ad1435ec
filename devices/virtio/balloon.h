/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_BALLOON_H
#define DEVICES_VIRTIO_BALLOON_H

#include "vmm/core/memory.h"

struct loop;
struct virtio_device;

/*
 * A memory balloon (virtio 1.2, 5.5): the pages that the driver reports as free, or inflates the
 * balloon with, go back to the host (guest_memory_forget()). The device itself asks for none:
 * num_pages is 0. -errno; prints nothing.
 */
int virtio_balloon_create(struct virtio_device **ret, const char *name,
                          const struct guest_memory *mem, struct loop *loop);

#endif
