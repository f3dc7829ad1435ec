/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_RNG_H
#define DEVICES_VIRTIO_RNG_H

#include "vmm/core/memory.h"

struct loop;
struct virtio_device;

/* An entropy device (virtio 1.2, 5.4) over the host's getrandom(). -errno; prints nothing. */
int virtio_rng_create(struct virtio_device **ret, const char *name, const struct guest_memory *mem,
                      struct loop *loop);

#endif
