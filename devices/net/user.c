/* SPDX-License-Identifier: MIT */
#include "devices/net/user.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "devices/net/user_process.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

/*
 * The socket's own buffers are all that is queued here. Frames go between them and the guest's
 * pages.
 *
 * What comes back is of a process that the guest may have taken over: of its header only one bit is
 * used, and it is never waited for once it has said that it is ready.
 */
#define USER_PIECES  1024  /* IOV_MAX */
#define USER_WAIT_MS 10000 /* for the network to be ready: a busy host takes a while */

struct user_net {
    struct net net;
    struct loop *loop;    /* NULL before user_attach() */
    struct watch socket;  /* fd -1: lost */
    struct watch process; /* its pidfd */
    struct user_process child;
    bool optional, awaited, ready, failed;
    bool ended; /* the end of the socket's data has been read */
    bool want_receive;
    bool paused, told_paused; /* what minivmm-net should know, and does */
    bool guest_csum;          /* negotiated */
};

static struct user_net *user_of(struct net *net)
{
    return container_of(net, struct user_net, net);
}

static void user_watch(struct user_net *u)
{
    bool readable = !u->paused && (u->want_receive || !u->ready);

    u->socket.events = (short)((u->socket.events & ~POLLIN) | (readable ? POLLIN : 0));
}

/* Says once what became of it. */
static void user_fail(struct user_net *u, const char *what)
{
    bool was_ready = u->ready;

    if (u->failed)
        return;
    u->failed = true;
    if (was_ready)
        log_warn("%s: the guest has no network any more", what);
    else
        log_refuse(EIO, "%s", what);
    if (!was_ready && u->optional)
        log_warn("continuing without a network (--net none avoids this warning)");
}

static void user_lose_socket(struct user_net *u)
{
    if (u->socket.fd < 0)
        return;
    close(u->socket.fd);
    u->socket.fd = -1;
    if (u->net.client.lost)
        u->net.client.lost(u->net.client.owner);
}

/* The process is ending, or of no more use; user_on_end() will say how it ended. */
static void user_lost(struct user_net *u)
{
    user_lose_socket(u);
    if (u->child.pid > 0)
        user_process_kill(&u->child);
    if (u->process.fd < 0)
        user_fail(u, u->ready ? "minivmm-net closed its socket"
                              : "no user-mode network: minivmm-net closed its socket");
}

/* Reads the first packet. */
static void user_greet(struct user_net *u)
{
    char text[USER_TEXT_MAX];
    ssize_t size;

    if (u->socket.fd < 0)
        return;
    size = recv(u->socket.fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        user_lost(u);
        return;
    }
    text[size] = '\0';
    u->ready = !strcmp(text, USER_READY);
    if (!u->ready) {
        user_fail(u, text);
        user_lost(u);
    }
    user_watch(u);
}

static void user_on_end(struct watch *watch, short revents)
{
    struct user_net *u = container_of(watch, struct user_net, process);
    char how[80], what[160];
    int status;

    if (!u->ready)
        user_greet(u); /* what it had to say comes first */
    status = user_process_reap(&u->child, how, sizeof(how));
    u->process.fd = -1;
    if (u->ready)
        snprintf(what, sizeof(what), "minivmm-net %s", how);
    else if (status == 127) /* the dynamic linker's */
        snprintf(what, sizeof(what),
                 "no user-mode network: minivmm-net finds no libslirp.so.0: install the package "
                 "libslirp0");
    else
        snprintf(what, sizeof(what), "no user-mode network: minivmm-net %s", how);
    user_fail(u, what);
    user_lose_socket(u);
}

static void user_tell(struct user_net *u)
{
    char byte = u->paused ? USER_PAUSE : USER_RESUME;

    if (u->paused == u->told_paused || u->socket.fd < 0)
        return;
    if (send(u->socket.fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        u->told_paused = u->paused;
    else
        u->socket.events |= POLLOUT;
}

/* The watch is left only to tell the process that it is to pause. */
static void user_on_socket_paused(struct user_net *u, short revents)
{
    u->socket.events = 0;
    user_tell(u);
    if (u->told_paused || revents & (POLLHUP | POLLERR))
        loop_remove(u->loop, &u->socket);
}

static void user_on_socket(struct watch *watch, short revents)
{
    struct user_net *u = container_of(watch, struct user_net, socket);

    if (u->paused) {
        user_on_socket_paused(u, revents);
        return;
    }
    if (!u->ready && revents & (POLLIN | POLLHUP | POLLERR)) {
        user_greet(u);
        return;
    }
    if (revents & POLLOUT) {
        watch->events &= ~POLLOUT;
        user_tell(u);
        u->net.client.writable(u->net.client.owner);
    }
    if (revents & POLLIN)
        u->net.client.readable(u->net.client.owner);
    if (u->ended || (revents & (POLLHUP | POLLERR) && !(revents & POLLIN)))
        user_lost(u);
}

static int user_send(struct net *net, const struct net_header *header, struct sg *frame)
{
    struct user_net *u = user_of(net);
    struct iovec iov[1 + NET_FRAME_PIECES];
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = sg_trim(frame) + 1 };
    ssize_t sent;

    if (u->socket.fd < 0)
        return -ENETDOWN;
    iov[0] = (struct iovec){ (void *)header, sizeof(*header) };
    memcpy(&iov[1], frame->iov, (message.msg_iovlen - 1) * sizeof(*iov));
    do {
        net->calls++;
        sent = sendmsg(u->socket.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);

    if (sent >= 0)
        return 0;
    if (errno == EAGAIN)
        u->socket.events |= POLLOUT;
    return -errno;
}

/* Reads behind a header of ours, which replaces the one that comes. */
static ssize_t user_receive(struct net *net, struct sg *room)
{
    struct user_net *u = user_of(net);
    struct net_header came;
    struct net_header header = { .flags = u->guest_csum ? VIRTIO_NET_HDR_F_DATA_VALID : 0 };
    struct iovec iov[USER_PIECES] = { { &came, sizeof(came) } };
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = 1 };
    ssize_t size;

    if (u->socket.fd < 0 || !u->ready)
        return -EAGAIN;
    sg_write(room, &header, sizeof(header));
    for (; room->length > 0 && message.msg_iovlen < USER_PIECES; message.msg_iovlen++) {
        iov[message.msg_iovlen] = sg_front(room);
        sg_skip(room, iov[message.msg_iovlen].iov_len);
    }
    do {
        net->calls++;
        size = recvmsg(u->socket.fd, &message, MSG_DONTWAIT);
    } while (size < 0 && errno == EINTR);

    if (size < 0)
        return -errno;
    u->ended |= size == 0;
    if (size < NET_HEADER_SIZE + ETH_HLEN || size > NET_HEADER_SIZE + NET_FRAME_MAX ||
        message.msg_flags & MSG_TRUNC)
        return -EMSGSIZE;
    return size;
}

static void user_want_receive(struct net *net, bool want)
{
    struct user_net *u = user_of(net);

    u->want_receive = want;
    user_watch(u);
}

static void user_set_offloads(struct net *net, uint64_t features)
{
    user_of(net)->guest_csum = features & BIT(VIRTIO_NET_F_GUEST_CSUM);
}

static void user_pause(struct net *net)
{
    struct user_net *u = user_of(net);

    u->paused = true;
    user_watch(u);
    loop_remove(u->loop, &u->process);
    user_tell(u);
    if (u->told_paused || u->socket.fd < 0)
        loop_remove(u->loop, &u->socket);
}

static void user_resume(struct net *net)
{
    struct user_net *u = user_of(net);

    if (!u->paused)
        return;
    u->paused = false;
    user_watch(u);
    user_tell(u);
    loop_remove(u->loop, &u->socket); /* it is still there if the process was not told */
    loop_add(u->loop, &u->socket);
    loop_add(u->loop, &u->process);
}

/* The process reads what is still in its socket, and ends. */
static void user_close(struct net *net)
{
    struct user_net *u = user_of(net);

    if (u->loop) {
        loop_remove(u->loop, &u->socket);
        loop_remove(u->loop, &u->process);
    }
    if (u->socket.fd >= 0)
        close(u->socket.fd);
    user_process_finish(&u->child);
    free(u);
}

static const struct net_ops user_ops = {
    .send = user_send,
    .receive = user_receive,
    .want_receive = user_want_receive,
    .set_offloads = user_set_offloads,
    .pause = user_pause,
    .resume = user_resume,
    .close = user_close,
};

static int user_check_socket(int fd)
{
    int domain = 0, type = 0;
    socklen_t size = sizeof(int);

    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    if (domain != AF_UNIX || type != SOCK_SEQPACKET)
        return log_refuse(
            EINVAL, "net user: descriptor %d is no SOCK_SEQPACKET socket of a minivmm-net", fd);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return log_error(errno, "net user: descriptor %d", fd);
    return fd;
}

int user_start(struct net **ret, const struct user_options *options)
{
    struct user_net *u = calloc(1, sizeof(*u));
    int fd;

    if (!u)
        return log_error(ENOMEM, "user-mode network");
    u->child.pidfd = -1;
    fd = options->fd >= 0 ? user_check_socket(options->fd)
                          : user_process_start(&u->child, &options->network);
    if (fd < 0) {
        user_process_finish(&u->child);
        free(u);
        return fd;
    }
    u->net = (struct net){ .ops = &user_ops, .offloads = USER_OFFLOADS, .mtu = USER_MTU };
    u->optional = options->optional;
    u->awaited = !u->optional && (options->fd >= 0 || options->network.forwards);
    u->socket = (struct watch){ .fd = fd, .ready = user_on_socket };
    u->process = (struct watch){ .fd = u->child.pidfd, .events = POLLIN, .ready = user_on_end };
    user_watch(u);
    *ret = &u->net;
    return 0;
}

void user_attach(struct net *net, struct loop *loop)
{
    struct user_net *u = user_of(net);

    u->loop = loop;
    loop_add(loop, &u->socket);
    loop_add(loop, &u->process);
}

static void user_do_wait(void *arg)
{
    struct user_net *u = arg;
    uint64_t now, end = clock_now_ms() + USER_WAIT_MS;

    while (!u->ready && !u->failed && (now = clock_now_ms()) < end) {
        struct pollfd fds[] = { { .fd = u->socket.fd, .events = POLLIN },
                                { .fd = u->process.fd, .events = POLLIN } };

        if (poll(fds, ARRAY_SIZE(fds), (int)(end - now)) <= 0)
            continue;
        if (fds[0].revents)
            user_greet(u);
        else
            user_on_end(&u->process, fds[1].revents);
    }
    if (!u->ready)
        user_fail(u, "no user-mode network: minivmm-net does not start");
}

int user_wait(struct net *net)
{
    struct user_net *u = user_of(net);

    if (!u->awaited)
        return 0;
    loop_call(u->loop, user_do_wait, u);
    return u->failed && !u->ready ? -EIO : 0;
}
