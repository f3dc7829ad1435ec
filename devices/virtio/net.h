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
struct virtio_net_registers {
    uint8_t mac[6];
    le16 status;
    le16 max_pairs; /* of queues: they come with VIRTIO_NET_F_MQ */
    le16 mtu;
};

/* What a card offers and shows, whoever moves its frames. */
uint64_t virtio_net_features(const struct net *net);
void virtio_net_describe(struct virtio_net_registers *ret, const struct net *net,
                         const uint8_t mac[6]);
/* They are configuration: a state is loaded by a card that has the same. */
void virtio_net_same(const struct virtio_net_registers *registers, struct state *s);

/*
 * A network card (virtio 1.2, 5.1): one queue each way, mergeable receive buffers, and the offloads
 * that `net` can do. Takes `net`, which runs on `loop`, over on success. -errno, nothing printed.
 */
int virtio_net_create(struct virtio_device **ret, const char *name, struct net *net,
                      const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop);

#endif
