/* SPDX-License-Identifier: MIT */
#include "vmm/user_net/relay.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "devices/net/net.h"
#include "devices/net/user.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"

#define RELAY_BURST  64 /* packets from minivmm before the network's own sockets get their turn */
#define RELAY_PACKET (NET_HEADER_SIZE + NET_FRAME_MAX)

struct relay {
    struct net *net;
    struct loop *loop;
    struct watch socket;
    void (*ended)(void *owner);
    void *owner;
    size_t waiting; /* bytes in `out` that the socket had no room for, or 0 */
    uint8_t in[RELAY_PACKET], out[RELAY_PACKET];
};

static void relay_control(struct relay *r, uint8_t message)
{
    if (message == USER_PAUSE)
        net_pause(r->net);
    else if (message == USER_RESUME)
        net_resume(r->net);
}

/* A frame of minivmm's, which has no other offload than a checksum to be completed. */
static void relay_frame(struct relay *r, size_t size)
{
    struct iovec iov = { r->in + NET_HEADER_SIZE, size - NET_HEADER_SIZE };
    struct sg frame = { .iov = &iov, .length = iov.iov_len };
    struct net_header header;

    memcpy(&header, r->in, sizeof(header));
    if (frame.length < ETH_HLEN || header.flags & (uint8_t)~VIRTIO_NET_HDR_F_NEEDS_CSUM ||
        header.gso_type != VIRTIO_NET_HDR_GSO_NONE || !net_checksum_ok(&header, frame.length))
        return;
    r->net->ops->send(r->net, &header, &frame);
}

/* False: there is no packet. */
static bool relay_read(struct relay *r)
{
    ssize_t size = recv(r->socket.fd, r->in, sizeof(r->in), MSG_DONTWAIT | MSG_TRUNC);

    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (size <= 0) {
        r->socket.fd = -1;
        r->ended(r->owner);
        return false;
    }
    if (size == 1)
        relay_control(r, r->in[0]);
    else if (size >= NET_HEADER_SIZE && (size_t)size <= sizeof(r->in))
        relay_frame(r, (size_t)size);
    return true;
}

/* Sends what waits. False: it still does. */
static bool relay_send(struct relay *r)
{
    if (r->waiting && r->socket.fd >= 0 &&
        send(r->socket.fd, r->out, r->waiting, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN)
        return false;
    r->waiting = 0;
    return true;
}

/* While the socket is full, frames for the guest stay in the network's own queue. */
static void relay_write(struct relay *r)
{
    bool room;

    while ((room = relay_send(r))) {
        struct iovec iov = { r->out, sizeof(r->out) };
        struct sg packet = { .iov = &iov, .length = iov.iov_len };
        ssize_t size = r->net->ops->receive(r->net, &packet);

        if (size < 0)
            break;
        r->waiting = (size_t)size;
    }
    r->socket.events = (short)(POLLIN | (room ? 0 : POLLOUT));
    r->net->ops->want_receive(r->net, room);
}

static void relay_on_socket(struct watch *watch, short revents)
{
    struct relay *r = container_of(watch, struct relay, socket);

    for (unsigned i = 0; i < RELAY_BURST && relay_read(r); i++)
        ;
    relay_write(r);
}

static void relay_on_frame(void *owner)
{
    relay_write(owner);
}

struct relay *relay_create(struct net *net, int socket, struct loop *loop,
                           void (*ended)(void *owner), void *owner)
{
    struct relay *r = calloc(1, sizeof(*r));

    if (!r) {
        log_error(ENOMEM, "user-mode network");
        return NULL;
    }
    r->net = net;
    r->loop = loop;
    r->ended = ended;
    r->owner = owner;
    r->socket = (struct watch){ .fd = socket, .events = POLLIN, .ready = relay_on_socket };
    net->client = (struct net_client){ .readable = relay_on_frame, .owner = r };
    net->ops->want_receive(net, true);
    loop_add(loop, &r->socket);
    return r;
}

void relay_destroy(struct relay *relay)
{
    if (!relay)
        return;
    loop_remove(relay->loop, &relay->socket);
    free(relay);
}
