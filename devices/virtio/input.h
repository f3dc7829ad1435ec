/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_INPUT_H
#define DEVICES_VIRTIO_INPUT_H

#include "vmm/core/memory.h"

struct loop;
struct virtio_device;

/* A keyboard whose one key is the power button (virtio 1.2, 5.8). -errno, nothing printed. */
int virtio_input_create(struct virtio_device **ret, const char *name,
                        const struct guest_memory *mem, struct loop *loop);

/*
 * Presses and releases the key, as soon as a driver listens: a press is not lost on a guest that
 * is still starting. On the device's loop.
 */
void virtio_input_press(struct virtio_device *v);

#endif
