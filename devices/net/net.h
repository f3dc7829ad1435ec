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
 * A NIC's back-end, which sends and receives Ethernet frames: user.c (user mode) or tap.c, and in
 * minivmm-net slirp.c. All of it runs on the NIC's loop. A back-end never calls its client from
 * within an operation of struct net_ops.
 */
struct net;

/* In front of every frame: struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6). */
struct net_header {
    uint8_t flags;    /* VIRTIO_NET_HDR_F_* */
    uint8_t gso_type; /* VIRTIO_NET_HDR_GSO_* */
    le16 hdr_len;
    le16 gso_size;
    le16 csum_start, csum_offset;
    le16 num_buffers; /* set by the NIC; back-ends ignore it */
};

#define NET_HEADER_SIZE  12
#define NET_FRAME_MAX    65554 /* bytes without header: 64 KiB, Ethernet header, VLAN tag */
#define NET_FRAME_PIECES 256   /* the most pieces of a frame to send */

struct net_ops {
    /*
     * Sends a frame. 0; -EAGAIN: try again after writable(); another -errno: the frame was dropped.
     * `header` is checked and not in guest memory. The pieces of `frame` may be changed, see
     * sg_trim().
     */
    int (*send)(struct net *net, const struct net_header *header, struct sg *frame);
    /*
     * Reads a frame with its header and returns the size of both; -EAGAIN: there is none. `room`
     * holds a frame of any size.
     */
    ssize_t (*receive)(struct net *net, struct sg *room);
    void (*want_receive)(struct net *net, bool want);         /* enables readable(); off at first */
    void (*set_offloads)(struct net *net, uint64_t features); /* VIRTIO_NET_F_*; may be NULL */
    /* Until resume() the client is not called and no timer advances. Both may be NULL. */
    void (*pause)(struct net *net);
    void (*resume)(struct net *net); /* no effect unless paused */
    void (*close)(struct net *net);
};

/* The NIC, called by its back-end. */
struct net_client {
    void (*readable)(void *owner); /* repeated while there are frames and want_receive is on */
    void (*writable)(void *owner); /* once after a send() that returned -EAGAIN */
    void (*lost)(void *owner);     /* once: no frame will be sent or received any more */
    void *owner;
};

struct net {
    const struct net_ops *ops;
    struct net_client client; /* set by the NIC before the loop runs */
    uint64_t offloads;        /* the VIRTIO_NET_F_* bits the back-end supports */
    uint64_t calls;           /* system calls made so far, those the back-end knows of */
    uint16_t mtu;             /* offered to the guest; 0: none, so Ethernet's 1500 */
};

/* Do the fields for a partial checksum lie in a frame of `size` bytes? */
static inline bool net_checksum_ok(const struct net_header *header, size_t size)
{
    uint16_t start = le16_load(&header->csum_start);
    uint16_t offset = le16_load(&header->csum_offset);

    return start <= size && offset <= size - start && sizeof(le16) <= size - start - offset;
}

/* `features` 0: no checksum or segmentation offload in either direction. */
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
