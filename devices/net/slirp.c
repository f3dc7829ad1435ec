/* SPDX-License-Identifier: MIT */
#include "devices/net/slirp.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net/frame_filter.h"
#include "devices/net/net.h"
#include "firmware/init/user_network.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

/*
 * libslirp is a TCP/IP stack that acts as the guest's router and maps its connections to sockets of
 * this process, which therefore is one of its own: minivmm-net.
 *
 * slirp calls back with frames at any time, also from within slirp_input(), so they are queued
 * until the NIC reads them. When the queue is half full slirp's sockets are no longer polled, which
 * slows the remote senders down. The other half is for replies to the guest's own frames; frames
 * that do not fit are dropped.
 *
 * The MTU is large, as there is no wire: a guest that uses it sends fewer and larger frames.
 *
 * A pause keeps all of this, and incoming data waits in the sockets. Nothing is saved: a connection
 * ends with the process that has its socket.
 */
#define SLIRP_MTU       16384
#define SLIRP_FRAME_MAX (ETH_HLEN + 4 /* VLAN tag */ + SLIRP_MTU)
#define SLIRP_QUEUE     (512 << 10) /* bytes, including struct slirp_frame */
#define SLIRP_ACCEPT_MS 100         /* between tries when there is no descriptor for a client */
#define SLIRP_CLIENTS   768 /* descriptors from here on, of 1024, are for the guest's own use */

struct slirp_frame {
    struct slirp_frame *next;
    size_t size;
    uint8_t bytes[];
};

struct slirp_timer {
    SlirpTimerCb expired;
    void *owner;
    int64_t when_ms; /* INT64_MAX: not set */
    struct slirp_timer *next;
};

struct slirp_net {
    struct net net;
    struct loop *loop;
    struct poller poller;
    Slirp *slirp;
    struct slirp_timer *timers;
    struct frame_filter filter;

    struct poll_set *set;          /* during pollfds_fill() */
    const struct poll_set *polled; /* during pollfds_poll() */
    bool polling;                  /* slirp's sockets are polled in this round */
    bool paused;
    uint64_t paused_at_ns, paused_ns; /* start of this pause; duration of all earlier ones */
    bool want_receive;                /* the NIC has buffers */
    bool guest_csum;                  /* negotiated: frames are marked as checksummed */
    struct slirp_frame *first;        /* of the queue */
    struct slirp_frame **last;        /* its end */
    size_t queued;                    /* bytes */
    fd_set listeners;                 /* forwarded TCP ports */
    int64_t accept_at_ms;             /* they are not polled before, for lack of descriptors */
    uint8_t sent[SLIRP_FRAME_MAX];    /* a copy of the guest's frame */
};

static struct slirp_net *slirp_of(struct net *net)
{
    return container_of(net, struct slirp_net, net);
}

/* Stops during a pause, so that no timer of a connection expires because of it. */
static int64_t slirp_clock_ns(void *opaque)
{
    const struct slirp_net *s = opaque;

    return (int64_t)((s->paused ? s->paused_at_ns : clock_now_ns()) - s->paused_ns);
}

static int64_t slirp_clock_ms(struct slirp_net *s)
{
    return slirp_clock_ns(s) / 1000000;
}

/* Queues a frame for the guest, or drops it. A negative result would only make slirp print. */
static ssize_t slirp_on_frame(const void *bytes, size_t size, void *opaque)
{
    struct slirp_net *s = opaque;
    struct slirp_frame *frame;

    if (size > SLIRP_FRAME_MAX || s->queued + sizeof(*frame) + size > SLIRP_QUEUE)
        return 0;
    frame = malloc(sizeof(*frame) + size);
    if (!frame)
        return 0;
    frame->next = NULL;
    frame->size = size;
    memcpy(frame->bytes, bytes, size);
    *s->last = frame;
    s->last = &frame->next;
    s->queued += sizeof(*frame) + size;
    return (ssize_t)size;
}

static void slirp_on_guest_error(const char *message, void *opaque)
{
    log_debug("user-mode network: invalid frame from the guest: %s", message);
}

static void *slirp_timer_new(SlirpTimerCb expired, void *owner, void *opaque)
{
    struct slirp_net *s = opaque;
    struct slirp_timer *timer = malloc(sizeof(*timer));

    if (!timer)
        abort(); /* as GLib does: slirp does not check for NULL */
    *timer = (struct slirp_timer){ expired, owner, INT64_MAX, s->timers };
    s->timers = timer;
    return timer;
}

static void slirp_timer_free(void *timer, void *opaque)
{
    struct slirp_net *s = opaque;
    struct slirp_timer **link = &s->timers;

    while (*link != timer)
        link = &(*link)->next;
    *link = (*link)->next;
    free(timer);
}

static void slirp_timer_mod(void *timer, int64_t when_ms, void *opaque)
{
    ((struct slirp_timer *)timer)->when_ms = when_ms;
}

/* Not needed: pollfds_fill() lists all descriptors in every round. */
static void slirp_on_descriptor(int fd, void *opaque)
{
}

static void slirp_on_notify(void *opaque)
{
}

static const SlirpCb slirp_callbacks = {
    .send_packet = slirp_on_frame,
    .guest_error = slirp_on_guest_error,
    .clock_get_ns = slirp_clock_ns,
    .timer_new = slirp_timer_new,
    .timer_free = slirp_timer_free,
    .timer_mod = slirp_timer_mod,
    .register_poll_fd = slirp_on_descriptor,
    .unregister_poll_fd = slirp_on_descriptor,
    .notify = slirp_on_notify,
};

static const struct {
    int slirp;
    short poll;
} slirp_events[] = {
    { SLIRP_POLL_IN, POLLIN },   { SLIRP_POLL_OUT, POLLOUT }, { SLIRP_POLL_PRI, POLLPRI },
    { SLIRP_POLL_ERR, POLLERR }, { SLIRP_POLL_HUP, POLLHUP },
};

static bool slirp_is_listener(const struct slirp_net *s, int fd)
{
    return fd >= 0 && fd < FD_SETSIZE && FD_ISSET(fd, &s->listeners);
}

static int slirp_add_poll(int fd, int events, void *opaque)
{
    struct slirp_net *s = opaque;
    short wanted = 0;
    int index;

    if (s->accept_at_ms && slirp_is_listener(s, fd))
        return -1;
    for (unsigned i = 0; i < ARRAY_SIZE(slirp_events); i++)
        if (events & slirp_events[i].slirp)
            wanted |= slirp_events[i].poll;
    index = poll_set_add(s->set, fd, wanted);
    return index < 0 ? -1 : index;
}

/* Whether there is a descriptor for another client. If not, clients wait until there is one. */
static bool slirp_may_accept(struct slirp_net *s)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= SLIRP_CLIENTS || (fd < 0 && (errno == EMFILE || errno == ENFILE)))
        s->accept_at_ms = slirp_clock_ms(s) + SLIRP_ACCEPT_MS;
    if (fd >= 0)
        close(fd);
    return s->accept_at_ms == 0;
}

static int slirp_get_revents(int index, void *opaque)
{
    struct slirp_net *s = opaque;
    int events = 0;

    if (index >= 0 && s->polled->fds[index].revents &&
        slirp_is_listener(s, s->polled->fds[index].fd) && !slirp_may_accept(s))
        return 0;
    for (unsigned i = 0; index >= 0 && i < ARRAY_SIZE(slirp_events); i++)
        if (s->polled->fds[index].revents & slirp_events[i].poll)
            events |= slirp_events[i].slirp;
    return events;
}

/* Limits the wait to the next timer; 0 if the NIC can receive a queued frame. */
static void slirp_limit_wait(struct slirp_net *s, uint32_t *timeout_ms)
{
    int64_t now = slirp_clock_ms(s);

    if (s->want_receive && s->first)
        *timeout_ms = 0;
    if (s->accept_at_ms && s->accept_at_ms - now < *timeout_ms)
        *timeout_ms = (uint32_t)(s->accept_at_ms - now);
    for (const struct slirp_timer *timer = s->timers; timer; timer = timer->next) {
        if (timer->when_ms <= now)
            *timeout_ms = 0;
        else if (timer->when_ms - now < *timeout_ms)
            *timeout_ms = (uint32_t)(timer->when_ms - now);
    }
}

static void slirp_prepare(struct poller *poller, struct poll_set *set, uint32_t *timeout_ms)
{
    struct slirp_net *s = container_of(poller, struct slirp_net, poller);

    s->polling = s->queued < SLIRP_QUEUE / 2;
    if (s->accept_at_ms <= slirp_clock_ms(s))
        s->accept_at_ms = 0;
    if (s->polling) {
        s->set = set;
        slirp_pollfds_fill(s->slirp, timeout_ms, slirp_add_poll, s);
    }
    slirp_limit_wait(s, timeout_ms);
}

static void slirp_run_timers(struct slirp_net *s)
{
    int64_t now = slirp_clock_ms(s);

    for (struct slirp_timer *timer = s->timers, *next; timer; timer = next) {
        next = timer->next;
        if (timer->when_ms > now)
            continue;
        timer->when_ms = INT64_MAX;
        timer->expired(timer->owner);
    }
}

static void slirp_dispatch(struct poller *poller, const struct poll_set *set)
{
    struct slirp_net *s = container_of(poller, struct slirp_net, poller);

    slirp_run_timers(s);
    if (s->polling) {
        s->polled = set;
        slirp_pollfds_poll(s->slirp, 0, slirp_get_revents, s);
    }
    if (s->want_receive && s->first)
        s->net.client.readable(s->net.client.owner);
}

/* Completes a partial checksum (NEEDS_CSUM): the ones' complement sum from csum_start on. */
static void slirp_finish_checksum(uint8_t *bytes, size_t size, const struct net_header *header)
{
    size_t start = le16_load(&header->csum_start);
    uint8_t *place = bytes + start + le16_load(&header->csum_offset);
    uint64_t sum = 0;
    uint32_t word;
    uint16_t half;

    for (; size - start >= sizeof(word); start += sizeof(word)) {
        memcpy(&word, bytes + start, sizeof(word));
        sum += word;
    }
    word = 0;
    memcpy(&word, bytes + start, size - start);
    sum += word;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    half = (uint16_t)~sum;
    if (half == 0)
        half = 0xffff; /* equal to 0 in TCP; in UDP 0 means no checksum */
    memcpy(place, &half, sizeof(half));
}

static int slirp_send(struct net *net, const struct net_header *header, struct sg *frame)
{
    struct slirp_net *s = slirp_of(net);
    size_t size = frame->length;

    if (size < ETH_HLEN || size > sizeof(s->sent))
        return -EMSGSIZE;
    sg_read(frame, s->sent, size); /* a copy, which the guest cannot change */
    /* Before the filter: the guest says where the checksum is to be written. */
    if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        slirp_finish_checksum(s->sent, size, header);
    if (!frame_filter_passes(&s->filter, s->sent, size))
        return -EPERM;
    slirp_input(s->slirp, s->sent, (int)size);
    return 0;
}

static void slirp_free_first(struct slirp_net *s)
{
    struct slirp_frame *frame = s->first;

    s->queued -= sizeof(*frame) + frame->size;
    s->first = frame->next;
    if (!s->first)
        s->last = &s->first;
    free(frame);
}

static ssize_t slirp_receive(struct net *net, struct sg *room)
{
    struct slirp_net *s = slirp_of(net);
    struct net_header header = { .flags = s->guest_csum ? VIRTIO_NET_HDR_F_DATA_VALID : 0 };
    ssize_t size = -EMSGSIZE;

    if (!s->first)
        return -EAGAIN;
    if (sg_write(room, &header, sizeof(header)) && sg_write(room, s->first->bytes, s->first->size))
        size = (ssize_t)(sizeof(header) + s->first->size);
    slirp_free_first(s);
    return size;
}

static void slirp_want_receive(struct net *net, bool want)
{
    slirp_of(net)->want_receive = want;
}

static void slirp_set_offloads(struct net *net, uint64_t features)
{
    slirp_of(net)->guest_csum = features & BIT(VIRTIO_NET_F_GUEST_CSUM);
}

static void slirp_pause(struct net *net)
{
    struct slirp_net *s = slirp_of(net);

    loop_set_poller(s->loop, NULL);
    s->paused_at_ns = clock_now_ns();
    s->paused = true;
}

static void slirp_resume(struct net *net)
{
    struct slirp_net *s = slirp_of(net);

    if (!s->paused)
        return;
    s->paused_ns += clock_now_ns() - s->paused_at_ns;
    s->paused = false;
    loop_set_poller(s->loop, &s->poller);
}

static void slirp_close(struct net *net)
{
    struct slirp_net *s = slirp_of(net);

    if (s->slirp) {
        loop_set_poller(s->loop, NULL);
        slirp_cleanup(s->slirp);
    }
    while (s->first)
        slirp_free_first(s);
    frame_filter_close(&s->filter);
    free(s);
}

static const struct net_ops slirp_ops = {
    .send = slirp_send,
    .receive = slirp_receive,
    .want_receive = slirp_want_receive,
    .set_offloads = slirp_set_offloads,
    .pause = slirp_pause,
    .resume = slirp_resume,
    .close = slirp_close,
};

/* Replaces GLib's printing to stdout and stderr, which a guest could use to flood them. */
static void slirp_on_glib_log(const char *domain, int level, const char *message, void *opaque)
{
    log_debug("user-mode network: %s", message);
}

/* Found by name: libslirp's headers are installed without GLib's. */
static void slirp_quiet_glib(void)
{
    typedef void log_function(const char *, int, const char *, void *);
    log_function *(*set_handler)(log_function *, void *);

    *(void **)&set_handler = dlsym(RTLD_DEFAULT, "g_log_set_default_handler");
    if (set_handler)
        set_handler(slirp_on_glib_log, NULL);
}

static struct in_addr slirp_addr(uint32_t addr)
{
    return (struct in_addr){ .s_addr = htonl(addr) };
}

/* Configuration version 1 has all that is needed, and every libslirp supports it. */
static Slirp *slirp_start(struct slirp_net *s, bool host_loopback)
{
    SlirpConfig config = {
        .version = 1,
        .in_enabled = true,
        .vnetwork = slirp_addr(USER_NETWORK),
        .vnetmask = slirp_addr(USER_NETWORK_MASK),
        .vhost = slirp_addr(USER_NETWORK_GATEWAY),
        .vdhcp_start = slirp_addr(USER_NETWORK_GUEST),
        .vnameserver = slirp_addr(USER_NETWORK_NAMESERVER),
        .in6_enabled = true,
        .vprefix_addr6 = { .s6_addr = { USER_NETWORK6 } },
        .vprefix_len = 64,
        .vhost6 = { .s6_addr = { USER_NETWORK6_GATEWAY } },
        .vnameserver6 = { .s6_addr = { USER_NETWORK6_NAMESERVER } },
        .if_mtu = SLIRP_MTU,
        .if_mru = SLIRP_MTU,
        .disable_host_loopback = !host_loopback,
    };

    return slirp_new(&config, &slirp_callbacks, s);
}

static int slirp_add_forward(struct slirp_net *s, const struct slirp_forward *forward)
{
    const char *protocol = forward->udp ? "udp" : "tcp";

    if (slirp_add_hostfwd(s->slirp, forward->udp, (struct in_addr){ forward->host_addr },
                          forward->host_port, slirp_addr(USER_NETWORK_GUEST),
                          forward->guest_port) == 0)
        return 0;

    switch (errno) {
    case EADDRINUSE:
        return log_refuse(errno,
                          "%s port %u is in use by another program: choose another one in hostfwd=",
                          protocol, forward->host_port);
    case EACCES:
        return log_refuse(errno,
                          "%s port %u needs root: choose 1024 or above in hostfwd=", protocol,
                          forward->host_port);
    default:
        return log_error(errno ? errno : EIO, "forward %s port %u", protocol, forward->host_port);
    }
}

/* Of all that is polled, notes the forwarded TCP ports. */
static int slirp_note_listener(int fd, int events, void *opaque)
{
    struct slirp_net *s = opaque;
    int listens = 0;
    socklen_t size = sizeof(listens);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens &&
        fd < FD_SETSIZE)
        FD_SET(fd, &s->listeners);
    return -1;
}

static int slirp_set_up(struct slirp_net *s, const struct slirp_options *options)
{
    uint32_t timeout_ms = 0;
    int error;

    slirp_quiet_glib();
    s->slirp = slirp_start(s, options->host_loopback);
    if (!s->slirp)
        return log_refuse(EIO, "no user-mode network: libslirp failed to start");
    loop_set_poller(s->loop, &s->poller);

    for (const struct slirp_forward *forward = options->forwards; forward;
         forward = forward->next) {
        error = slirp_add_forward(s, forward);
        if (error < 0)
            return error;
    }
    if (options->forwards)
        slirp_pollfds_fill(s->slirp, &timeout_ms, slirp_note_listener, s);
    return 0;
}

int slirp_open(struct net **ret, const struct slirp_options *options, struct loop *loop)
{
    struct slirp_net *s = calloc(1, sizeof(*s));
    int error;

    if (!s)
        return log_error(ENOMEM, "user-mode network");
    s->net.ops = &slirp_ops;
    s->net.offloads = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM);
    s->net.mtu = SLIRP_MTU;
    s->last = &s->first;
    s->loop = loop;
    s->poller = (struct poller){ slirp_prepare, slirp_dispatch };

    error = frame_filter_open(&s->filter, options->host_loopback);
    if (!error)
        error = slirp_set_up(s, options);
    if (error < 0) {
        slirp_close(&s->net);
        return error;
    }
    *ret = &s->net;
    return 0;
}
