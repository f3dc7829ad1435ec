/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_NET_H
#define DEVICES_NET_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/core/endian.h"
#include "vmm/core/loop.h"
#include "vmm/core/sg.h"

/*
 * A way out for Ethernet frames: slirp.c (user mode), tap.c. Everything here runs on the card's
 * loop; no backend calls its card from inside an operation of struct net_ops.
 */
struct net;

/* In front of every frame: struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6). */
struct net_header {
    uint8_t flags;    /* VIRTIO_NET_HDR_F_* */
    uint8_t gso_type; /* VIRTIO_NET_HDR_GSO_* */
    le16 hdr_len;
    le16 gso_size;
    le16 csum_start, csum_offset;
    le16 num_buffers; /* the card's business: backends leave it alone */
};

#define NET_HEADER_SIZE  12
#define NET_FRAME_MAX    65554 /* bytes without header: 64 KiB, Ethernet header, VLAN tag */
#define NET_FRAME_PIECES 256   /* at most, of a frame that is sent */

struct net_ops {
    /* 0; -EAGAIN: wait for writable(); else the frame is lost. The header is checked, and a copy
     * the guest cannot change. The pieces of `frame` may be changed: see sg_trim(). */
    int (*send)(struct net *net, const struct net_header *header, struct sg *frame);
    /* Fills in header and frame and returns the size of both; -EAGAIN: there is none. `room` takes
     * the largest possible, so nothing is cut off. */
    ssize_t (*receive)(struct net *net, struct sg *room);
    void (*want_receive)(struct net *net, bool want); /* may readable() be called? At first: no */
    void (*set_offloads)(struct net *net, uint64_t features); /* VIRTIO_NET_F_*; may be NULL */
    /* Until resume() the card is not called, and no time passes. Both NULL: nothing to do. */
    void (*pause)(struct net *net);
    void (*resume)(struct net *net); /* does nothing unless paused */
    void (*close)(struct net *net);
};

/* The card: told when to try again. */
struct net_client {
    void (*readable)(void *owner); /* again and again while there are frames and they are wanted */
    void (*writable)(void *owner); /* once after a send() that gave -EAGAIN */
    void *owner;
};

struct net {
    const struct net_ops *ops;
    struct net_client client; /* set by the card before the loop runs */
    uint64_t offloads;        /* VIRTIO_NET_F_* bits the backend can do */
    uint64_t calls;           /* system calls made so far, as far as the backend knows */
    uint16_t mtu;             /* to tell the guest, or 0: Ethernet's */
};

/* Features of 0: the guest takes finished frames only. */
static inline void net_set_offloads(struct net *net, uint64_t features)
{
    if (net->ops->set_offloads)
        net->ops->set_offloads(net, features);
}

static inline void net_pause(struct net *net)
{
    if (net->ops->pause)
        net->ops->pause(net);
}

static inline void net_resume(struct net *net)
{
    if (net->ops->resume)
        net->ops->resume(net);
}

static inline void net_close(struct net *net)
{
    if (net)
        net->ops->close(net);
}

#endif
