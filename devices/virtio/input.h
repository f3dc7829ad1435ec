/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_INPUT_H
#define DEVICES_VIRTIO_INPUT_H

#include "vmm/core/memory.h"

struct loop;
struct virtio_device;

/* A keyboard whose only key is the power button (virtio 1.2, 5.8). -errno; prints nothing. */
int virtio_input_create(struct virtio_device **ret, const char *name,
                        const struct guest_memory *mem, struct loop *loop);

/*
 * Presses and releases the key. If there is no driver yet the events are sent when it starts. On
 * the device's loop.
 */
void virtio_input_press(struct virtio_device *v);

#endif
