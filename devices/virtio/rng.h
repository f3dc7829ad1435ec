/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_RNG_H
#define DEVICES_VIRTIO_RNG_H

#include "vmm/core/memory.h"

struct loop;
struct virtio_device;

/* A source of entropy (virtio 1.2, 5.4): the host's getrandom(). -errno, nothing printed. */
int virtio_rng_create(struct virtio_device **ret, const char *name, const struct guest_memory *mem,
                      struct loop *loop);

#endif
