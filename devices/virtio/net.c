/* SPDX-License-Identifier: MIT */
#include "devices/virtio/net.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "devices/net/net.h"
#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

/*
 * Receiving. The size of a frame is unknown before it is read. So buffers are popped ahead, enough
 * for a frame as large as the last one: `buffers`, whose pieces of guest memory lie in `pieces`,
 * back to back. A frame is read straight into them; the part that does not fit goes to `spill`
 * and is copied into further buffers, if necessary once the guest has posted some.
 */
enum { NET_RX, NET_TX };

#define NET_BURST      64  /* frames in one direction before the loop polls again */
#define NET_RX_PIECES  768 /* with one for the spill, less than readv()'s IOV_MAX */
#define NET_PLAIN_SIZE (NET_HEADER_SIZE + ETH_FRAME_LEN + 4 /* VLAN tag */)
#define NET_ANY_SIZE   (NET_HEADER_SIZE + NET_FRAME_MAX)

static_assert(sizeof(struct net_header) == NET_HEADER_SIZE, "virtio 1.2, 5.1.6");
static_assert(VIRTQ_MAX_SIZE <= NET_FRAME_PIECES, "a frame is one chain");

struct net_buffer {
    uint16_t head;
    uint16_t pieces;
    size_t size; /* bytes */
};

struct virtio_net {
    struct virtio_device virtio;
    struct net *net;
    struct virtio_net_config_space config;

    unsigned buffer_count, piece_count;
    size_t capacity;   /* bytes in all of `buffers` */
    size_t frame_size; /* of a frame that was read and not yet delivered, or 0 */
    size_t spilled;    /* bytes of it in `spill` */
    size_t expected;   /* size of the last frame: the guess for the next one */
    bool warned;       /* about too small buffers, since the last reset */
    struct net_buffer buffers[VIRTQ_MAX_SIZE];
    struct iovec pieces[NET_RX_PIECES + 1];

    struct virtq_chain chain;
    uint8_t spill[NET_ANY_SIZE];
};

static bool net_mergeable(const struct virtio_net *n)
{
    return virtio_has_feature(&n->virtio, VIRTIO_NET_F_MRG_RXBUF);
}

/* All entries of the queue are popped, or another chain might not fit into `pieces`. */
static bool net_full(const struct virtio_net *n)
{
    return n->buffer_count == n->virtio.queues[NET_RX].layout.size ||
           n->piece_count > NET_RX_PIECES - VIRTQ_MAX_SIZE;
}

static bool net_wants_buffers(const struct virtio_net *n)
{
    if (!net_mergeable(n))
        return n->buffer_count == 0;
    return n->capacity < (n->frame_size ? n->frame_size : n->expected) && !net_full(n);
}

static void net_keep_buffer(struct virtio_net *n, struct virtq_chain *chain)
{
    unsigned pieces = sg_trim(&chain->writable);
    size_t size = chain->writable.length;

    memcpy(&n->pieces[n->piece_count], chain->writable.iov, pieces * sizeof(*n->pieces));
    n->piece_count += pieces;
    n->capacity += size;
    n->buffers[n->buffer_count++] = (struct net_buffer){ chain->head, (uint16_t)pieces, size };
}

/* Pops as many buffers as needed; enables notifications if there are too few. */
static void net_pop_buffers(struct virtio_net *n)
{
    struct virtq *q = virtio_virtq(&n->virtio, NET_RX);

    do {
        while (net_wants_buffers(n) && virtq_pop(q, &n->chain))
            net_keep_buffer(n, &n->chain);
    } while (net_wants_buffers(n) && !virtq_enable_notification(q));
}

/* How many of the popped buffers hold `size` bytes. */
static unsigned net_buffers_for(const struct virtio_net *n, size_t size)
{
    unsigned count = 0;

    while (size > n->buffers[count].size)
        size -= n->buffers[count++].size;
    return count + 1;
}

/* Pushes the oldest `count` buffers, with a frame of `size` bytes in them. */
static void net_push_buffers(struct virtio_net *n, unsigned count, size_t size)
{
    struct virtq *q = virtio_virtq(&n->virtio, NET_RX);
    unsigned pieces = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct net_buffer *buffer = &n->buffers[i];
        size_t part = size < buffer->size ? size : buffer->size;

        virtq_push_head(q, buffer->head, (uint32_t)part);
        size -= part;
        n->capacity -= buffer->size;
        pieces += buffer->pieces;
    }
    n->buffer_count -= count;
    n->piece_count -= pieces;
    memmove(n->buffers, &n->buffers[count], n->buffer_count * sizeof(*n->buffers));
    memmove(n->pieces, &n->pieces[pieces], n->piece_count * sizeof(*n->pieces));
    n->frame_size = n->spilled = 0;
}

/* Moves an undelivered frame into `spill` and rewinds all buffers. */
static void net_rewind_buffers(struct virtio_net *n)
{
    struct sg filled = { .iov = n->pieces, .length = n->capacity };
    size_t front = n->frame_size - n->spilled;

    assert(n->frame_size <= sizeof(n->spill));
    memmove(n->spill + front, n->spill, n->spilled);
    sg_read(&filled, n->spill, front);
    n->spilled = n->frame_size;
    virtq_rewind(virtio_virtq(&n->virtio, NET_RX), n->buffer_count);
    n->buffer_count = n->piece_count = 0;
    n->capacity = 0;
}

/* The frame is larger than all buffers the guest can post: drops it and pushes them empty. */
static void net_drop_frame(struct virtio_net *n)
{
    if (!n->warned)
        log_guest(&n->virtio.warnings,
                  "%s: the guest's receive buffers are too small: dropping frames", n->virtio.name);
    n->warned = true;
    net_push_buffers(n, n->buffer_count, 0);
}

/* Pushes the frame that was read. False if the guest must post more buffers first. */
static bool net_deliver_frame(struct virtio_net *n)
{
    struct sg header = { .iov = n->pieces, .length = n->capacity };
    struct sg rest = header;
    unsigned count;
    le16 number;

    if (n->frame_size > n->capacity) {
        if (net_mergeable(n) && !net_full(n))
            return false;
        net_drop_frame(n);
        return true;
    }

    sg_skip(&rest, n->frame_size - n->spilled);
    sg_write(&rest, n->spill, n->spilled);
    count = net_buffers_for(n, n->frame_size);
    le16_store(&number, (uint16_t)count);
    sg_skip(&header, offsetof(struct net_header, num_buffers));
    sg_write(&header, &number, sizeof(number));
    net_push_buffers(n, count, n->frame_size);
    return true;
}

/* Reads a frame into guest memory. Offers few buffers: readv() has a cost for each piece. */
static bool net_read_frame(struct virtio_net *n)
{
    struct sg room = { .iov = n->pieces };
    unsigned pieces = 0;
    struct iovec saved;
    size_t offered;
    ssize_t size;

    for (unsigned i = 0; i < n->buffer_count && (i == 0 || room.length < n->expected); i++) {
        pieces += n->buffers[i].pieces;
        room.length += n->buffers[i].size;
    }
    offered = room.length;
    room.length += sizeof(n->spill);
    saved = n->pieces[pieces];
    n->pieces[pieces] = (struct iovec){ n->spill, sizeof(n->spill) };
    size = n->net->ops->receive(n->net, &room);
    n->pieces[pieces] = saved;

    if (size < NET_HEADER_SIZE)
        return false;
    n->frame_size = n->expected = (size_t)size;
    n->spilled = n->frame_size > offered ? n->frame_size - offered : 0;
    if (n->frame_size > n->capacity)
        net_pop_buffers(n);
    return true;
}

static void net_receive(struct virtio_net *n)
{
    struct virtq *q = virtio_virtq(&n->virtio, NET_RX);

    if (!virtq_started(q))
        return; /* the device is being reset: v->features must not be read */
    net_pop_buffers(n);
    for (unsigned i = 0; i < NET_BURST && n->buffer_count > 0 && virtq_started(q); i++) {
        if (n->frame_size == 0 && !net_read_frame(n))
            break;
        if (!net_deliver_frame(n))
            break;
        net_pop_buffers(n); /* at the end: there is a buffer, or notifications are enabled */
    }
    virtq_flush(q);
    n->net->ops->want_receive(n->net,
                              virtq_started(q) && n->buffer_count > 0 && n->frame_size == 0);
}

/* GSO types, and the features that allow the guest to use them. */
static const struct {
    uint8_t type;
    uint8_t feature;
} net_gso_types[] = {
    { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4 },
    { VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6 },
};

static bool net_gso_ok(const struct virtio_net *n, const struct net_header *header, size_t size)
{
    uint8_t type = header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

    if (header->gso_type & VIRTIO_NET_HDR_GSO_ECN &&
        !virtio_has_feature(&n->virtio, VIRTIO_NET_F_HOST_ECN))
        return false;
    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || le16_load(&header->gso_size) == 0 ||
        le16_load(&header->hdr_len) > size)
        return false;

    for (unsigned i = 0; i < ARRAY_SIZE(net_gso_types); i++)
        if (net_gso_types[i].type == type)
            return virtio_has_feature(&n->virtio, net_gso_types[i].feature);
    return false;
}

/* Checks a copy of the header for a frame of `size` bytes, and clears fields that do not apply. */
static bool net_header_ok(const struct virtio_net *n, struct net_header *header, size_t size)
{
    if (!virtio_has_feature(&n->virtio, VIRTIO_NET_F_CSUM))
        *header = (struct net_header){ 0 };
    header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
    le16_store(&header->num_buffers, 0);

    if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !net_checksum_ok(header, size))
        return false;
    if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return net_gso_ok(n, header, size);
    le16_store(&header->hdr_len, 0);
    le16_store(&header->gso_size, 0);
    return true;
}

/* Sends the frame of one chain. A malformed one is dropped. -EAGAIN: try again later. */
static int net_send(struct virtio_net *n, struct sg *frame)
{
    struct net_header header;

    if (!sg_read(frame, &header, sizeof(header)) || frame->length < ETH_HLEN ||
        frame->length > NET_FRAME_MAX || !net_header_ok(n, &header, frame->length)) {
        log_debug("%s: bad frame dropped", n->virtio.name);
        return 0;
    }
    return n->net->ops->send(n->net, &header, frame);
}

static void net_transmit(struct virtio_net *n)
{
    struct virtq *q = virtio_virtq(&n->virtio, NET_TX);
    unsigned sent = 0;
    bool blocked = false;

    while (sent < NET_BURST && !blocked && virtq_pop(q, &n->chain)) {
        blocked = net_send(n, &n->chain.readable) == -EAGAIN;
        if (blocked) {
            virtq_rewind(q, 1); /* net_writable() continues */
        } else {
            virtq_push(q, &n->chain, 0);
            sent++;
        }
    }
    virtq_flush(q);
    if (!blocked && !virtq_enable_notification(q))
        virtio_kick(&n->virtio, NET_TX); /* continue after the loop's other work */
}

static void net_readable(void *owner)
{
    net_receive(owner);
}

static void net_writable(void *owner)
{
    net_transmit(owner);
}

static void net_lost(void *owner)
{
    struct virtio_net *n = owner;

    le16_store(&n->config.status, 0);
    virtio_config_changed(&n->virtio);
    net_transmit(n); /* a frame that waited for room waits no longer: it is dropped */
}

static struct virtio_net *net_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_net, virtio);
}

static void net_kick(struct virtio_device *v, unsigned queue)
{
    if (queue == NET_RX)
        net_receive(net_of(v));
    else
        net_transmit(net_of(v));
}

static uint64_t net_features(const struct virtio_device *v)
{
    return virtio_net_features(container_of(v, const struct virtio_net, virtio)->net);
}

static void net_read_config(struct virtio_device *v, void *config)
{
    memcpy(config, &net_of(v)->config, sizeof(struct virtio_net_config_space));
}

static void net_start(struct virtio_device *v)
{
    struct virtio_net *n = net_of(v);

    n->expected = NET_PLAIN_SIZE;
    net_set_offloads(n->net, v->features);
}

static void net_stop(struct virtio_device *v)
{
    struct virtio_net *n = net_of(v);

    n->buffer_count = n->piece_count = 0;
    n->capacity = n->frame_size = n->spilled = 0;
    n->warned = false;
    net_resume(n->net);
    n->net->ops->want_receive(n->net, false);
    net_set_offloads(n->net, 0);
}

static bool net_pause_nic(struct virtio_device *v, uint64_t deadline_ns)
{
    struct virtio_net *n = net_of(v);

    net_pause(n->net);
    net_rewind_buffers(n);
    return true;
}

static void net_resume_nic(struct virtio_device *v)
{
    struct virtio_net *n = net_of(v);

    if (n->expected == 0)
        n->expected = NET_PLAIN_SIZE;
    net_set_offloads(n->net, v->features); /* after a load the back-end does not have them yet */
    net_resume(n->net);
}

static void net_state(struct virtio_device *v, struct state *s)
{
    struct virtio_net *n = net_of(v);
    uint32_t size = (uint32_t)n->spilled;

    virtio_net_config_state(&n->config, s);
    state_data(s, "frame", n->spill, &size, sizeof(n->spill)); /* the undelivered one, whole */
    if (size > 0 && size < NET_HEADER_SIZE)
        state_fail(s, "a frame of %u bytes", size);
    if (size > 0 && !(virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK))
        state_fail(s, "a frame without a driver");
    n->frame_size = n->spilled = s->error ? 0 : size;
}

static uint64_t net_calls(const struct virtio_device *v)
{
    return container_of(v, const struct virtio_net, virtio)->net->calls;
}

static void net_destroy(struct virtio_device *v)
{
    net_close(net_of(v)->net);
    free(net_of(v));
}

static const struct virtio_ops net_ops = {
    .type = VIRTIO_ID_NET,
    .queue_size = VIRTQ_MAX_SIZE,
    .config_size = sizeof(struct virtio_net_config_space),
    .features = net_features,
    .read_config = net_read_config,
    .start = net_start,
    .stop = net_stop,
    .pause = net_pause_nic,
    .resume = net_resume_nic,
    .kick = net_kick,
    .calls = net_calls,
    .destroy = net_destroy,
};

uint64_t virtio_net_features(const struct net *net)
{
    return BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
           (net->mtu ? BIT(VIRTIO_NET_F_MTU) : 0) | net->offloads;
}

void virtio_net_fill_config(struct virtio_net_config_space *ret, const struct net *net,
                            const uint8_t mac[6])
{
    memcpy(ret->mac, mac, ETH_ALEN);
    le16_store(&ret->status, VIRTIO_NET_S_LINK_UP);
    le16_store(&ret->mtu, net->mtu);
}

void virtio_net_config_state(const struct virtio_net_config_space *config, struct state *s)
{
    uint64_t mac = 0;

    for (unsigned i = 0; i < ETH_ALEN; i++)
        mac = mac << 8 | config->mac[i];
    state_same(s, "mac", mac);
    state_same(s, "mtu", le16_load(&config->mtu));
}

int virtio_net_create(struct virtio_device **ret, const char *name, struct net *net,
                      const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop)
{
    struct virtio_net *n = calloc(1, sizeof(*n));
    int error;

    if (!n)
        return -ENOMEM;
    error = virtio_init(&n->virtio, &net_ops, net_state, 2, name, mem, loop);
    if (error < 0) {
        free(n);
        return error;
    }

    virtio_net_fill_config(&n->config, net, mac);
    n->net = net;
    net->client = (struct net_client){ net_readable, net_writable, net_lost, n };
    *ret = &n->virtio;
    return 0;
}
