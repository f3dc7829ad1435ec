/* SPDX-License-Identifier: MIT */

/*
 * A driver of virtio-net controlled by the input: descriptors, rings, kicks, resets and the header
 * of a frame, with a back-end that checks the frames it gets.
 */
#include "devices/virtio/net.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "devices/net/net.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define OFFLOADS                                                                          \
    (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | \
     BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4))
#define ALL_FEATURES (OFFLOADS | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MTU))

struct sink {
    struct net net;
    bool wanted;
    int error;
    unsigned left;
    size_t size;
};

static int sink_send(struct net *net, const struct net_header *header, struct sg *frame)
{
    struct sink *sink = container_of(net, struct sink, net);
    static uint8_t bytes[NET_FRAME_MAX];
    size_t size = frame->length;

    demand(size >= 14 && size <= NET_FRAME_MAX && sg_read(frame, bytes, size));
    if (header->flags)
        demand(le16_load(&header->csum_start) + le16_load(&header->csum_offset) + 2u <= size);
    if (header->gso_type)
        demand(header->flags && le16_load(&header->gso_size) &&
               le16_load(&header->hdr_len) <= size);
    return sink->error;
}

static ssize_t sink_receive(struct net *net, struct sg *room)
{
    struct sink *sink = container_of(net, struct sink, net);

    demand(room->length >= NET_HEADER_SIZE + NET_FRAME_MAX);
    if (sink->left == 0)
        return -EAGAIN;
    sink->left--;
    demand(sg_zero(room, sink->size));
    return (ssize_t)sink->size;
}

static void sink_want_receive(struct net *net, bool want)
{
    container_of(net, struct sink, net)->wanted = want;
}

static void sink_close(struct net *net)
{
}

static const struct net_ops sink_ops = {
    .send = sink_send,
    .receive = sink_receive,
    .want_receive = sink_want_receive,
    .close = sink_close,
};

/* An address: mostly near the buffers, sometimes anything. */
static uint64_t take_address(struct input *in)
{
    uint32_t value = take(in, 3);

    return value & 1 ? (uint64_t)value << 12 : DRIVER_BUFFERS + value % 0x40000;
}

static void step(struct driver *d, struct sink *sink, struct input *in)
{
    unsigned op = take(in, 1), queue = op >> 7;
    uint64_t addr;
    uint32_t len;

    switch (op & 7) {
    case 0:
    case 1:
        addr = take_address(in);
        len = take(in, op & 1 ? 1 : 3);
        driver_describe(d, queue, take(in, 1) % 64, addr, len, (uint16_t)(op >> 3 & 7),
                        (uint16_t)take(in, 1));
        break;
    case 2:
        driver_publish(d, queue, (uint16_t)take(in, 1));
        break;
    case 3:
        driver_kick(d, queue);
        if (sink->wanted && sink->left)
            sink->net.client.readable(sink->net.client.owner);
        break;
    case 4:
        sink->left = take(in, 1);
        sink->size = NET_HEADER_SIZE + 14 + take(in, 2) % (NET_FRAME_MAX - 13);
        break;
    case 5:
        sink->error = op & 8 ? -EAGAIN : 0;
        if (op & 16)
            sink->net.client.writable(sink->net.client.owner);
        break;
    case 6:
        for (unsigned i = 0; i < NET_HEADER_SIZE; i++)
            memset(driver_ram(d, DRIVER_BUFFERS + i), (int)take(in, 1), 1);
        break;
    default:
        if (op & 8)
            driver_set_avail_idx(d, queue, (uint16_t)take(in, 2));
        else
            virtio_reset(d->device);
        if (!(op & 8))
            driver_start(d, d->device, take(in, 4) & ALL_FEATURES);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    static struct sink sink = { .net = { .ops = &sink_ops, .offloads = OFFLOADS, .mtu = 9000 } };
    static struct driver d;

    log_set_level(LOG_LEVEL_ERROR);
    sink.left = 0;
    sink.error = 0;
    if (begin_driver(&d) &&
        virtio_net_create(&d.device, "net0", &sink.net, (uint8_t[6]){ 2 }, d.mem, d.loop) < 0)
        abort();
    driver_start(&d, d.device, take(&in, 4) & ALL_FEATURES);
    while (in.size > 0)
        step(&d, &sink, &in);
    virtio_reset(d.device);
    return 0;
}
