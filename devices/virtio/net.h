/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include <stdint.h>

#include "vmm/memory.h"

struct loop;
struct net;
struct virtio_device;

/*
 * A network card (virtio 1.2, 5.1): one queue each way, mergeable receive buffers, and the offloads
 * that `net` can do. Takes `net`, which runs on `loop`, over on success. -errno, nothing printed.
 */
int virtio_net_create(struct virtio_device **ret, const char *name, struct net *net,
                      const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop);

#endif
