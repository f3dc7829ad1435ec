/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_VHOST_NET_H
#define DEVICES_VIRTIO_VHOST_NET_H

#include <stdint.h>

#include "vmm/core/memory.h"

struct loop;
struct net;
struct virtio_device;

/*
 * A NIC like virtio_net_create()'s, but served by vhost-net: the host's kernel moves frames between
 * the queues and `tap`, the descriptor behind `net`, and no notification or interrupt comes to user
 * space. Takes ownership of `net` on success. Fails with the errno of opening /dev/vhost-net, or
 * with -EOPNOTSUPP if that lacks a feature; prints nothing.
 */
int vhost_net_create(struct virtio_device **ret, const char *name, struct net *net, int tap,
                     const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop);

#endif
