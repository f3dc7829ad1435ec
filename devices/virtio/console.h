/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_CONSOLE_H

#include "devices/virtio/virtio.h"

struct terminal;

/*
 * One port (virtio 1.2, 5.3): hvc0 in Linux. Becomes the client of `terminal`, which outlives it
 * and must be on `loop` too. 0, or -errno; prints nothing.
 */
int virtio_console_create(struct virtio_device **ret, const char *name, struct terminal *terminal,
                          const struct guest_memory *mem, struct loop *loop);

#endif
