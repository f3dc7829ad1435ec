/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_VHOST_NET_H
#define DEVICES_VIRTIO_VHOST_NET_H

#include <stdint.h>

#include "vmm/core/memory.h"

struct loop;
struct net;
struct virtio_device;

/*
 * A network card like virtio_net_create()'s, but its queues are served by the host's kernel
 * (vhost-net), which moves frames between them and `tap`, the descriptor behind `net`: no frame,
 * doorbell or interrupt comes to user space. Takes `net` over on success. -errno, nothing printed,
 * if /dev/vhost-net cannot be had: that of open(), or -EOPNOTSUPP for one that can too little.
 */
int vhost_net_create(struct virtio_device **ret, const char *name, struct net *net, int tap,
                     const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop);

#endif
