/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include <stdint.h>

#include "vmm/core/endian.h"
#include "vmm/core/memory.h"

struct loop;
struct net;
struct state;
struct virtio_device;

/* Configuration space (virtio 1.2, 5.1.4). */
struct virtio_net_config_space {
    uint8_t mac[6];
    le16 status;
    le16 max_pairs; /* only with VIRTIO_NET_F_MQ, which is not offered */
    le16 mtu;
};

/* Shared by the NIC below and vhost_net.h's: the features offered, and configuration space. */
uint64_t virtio_net_features(const struct net *net);
void virtio_net_fill_config(struct virtio_net_config_space *ret, const struct net *net,
                            const uint8_t mac[6]);
/* Refuses to load the state of a NIC with another MAC address or MTU. */
void virtio_net_config_state(const struct virtio_net_config_space *config, struct state *s);

/*
 * A NIC (virtio 1.2, 5.1) with one queue pair, mergeable receive buffers, and the offloads of the
 * back-end `net`, which runs on `loop`. Takes ownership of `net` on success. -errno; prints
 * nothing.
 */
int virtio_net_create(struct virtio_device **ret, const char *name, struct net *net,
                      const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop);

#endif
