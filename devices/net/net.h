/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_NET_H
#define DEVICES_NET_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/loop.h"
#include "vmm/sg.h"

/*
 * A way out for Ethernet frames: slirp.c (user mode), tap.c. Every frame has a struct
 * virtio_net_hdr_v1 in front (12 bytes, virtio 1.2, 5.1.6). All of it runs on the card's loop.
 */
struct net;
struct net_config;

#define NET_HEADER_SIZE 12
#define NET_FRAME_MAX                                                           \
    (NET_HEADER_SIZE + 65550) /* bytes: the largest a guest or backend may send \
                               */

struct net_ops {
    ssize_t (*send)(struct net *net, struct sg *frame);       /* -EAGAIN: wait for writable(); other
                                                                 errors: the frame is dropped */
    ssize_t (*receive)(struct net *net, struct sg *room);     /* frame size; -EAGAIN: none;
                                                                 -EMSGSIZE: did not fit, and is gone */
    void (*want_receive)(struct net *net, bool want);         /* may readable() be called? */
    void (*set_offloads)(struct net *net, uint64_t features); /* VIRTIO_NET_F_*; may be NULL */
    void (*close)(struct net *net);
};

/* The card: told when to try again. */
struct net_client {
    void (*readable)(void *owner);
    void (*writable)(void *owner);
    void *owner;
};

struct net {
    const struct net_ops *ops;
    struct net_client client; /* set by the card before the loop runs */
    uint64_t offloads;        /* VIRTIO_NET_F_* bits the backend can do */
};

/* Opens config->interface through /dev/net/tun, or takes over the tap descriptor config->fd. */
int tap_open(struct net **ret, const struct net_config *config, struct loop *loop);

/* Loads libslirp; -ENOSYS if it is not there. Both print what went wrong. */
int slirp_open(struct net **ret, const struct net_config *config, struct loop *loop);

static inline void net_close(struct net *net)
{
    if (net)
        net->ops->close(net);
}

#endif
