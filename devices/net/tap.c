/* SPDX-License-Identifier: MIT */
#include "devices/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

struct tap {
    struct net net;
    struct loop *loop;
    struct watch watch;
    int fd;
    bool paused;
    char name[IFNAMSIZ];
};

/* Offloads that the guest accepts, and the kernel's flags for them. */
static const struct {
    uint8_t feature;
    uint8_t offload;
} tap_offloads[] = {
    { VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
    { VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
    { VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
    { VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
};

#define TAP_FEATURES                                                                            \
    (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |       \
     BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | \
     BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN))

static struct tap *tap_of(struct net *net)
{
    return container_of(net, struct tap, net);
}

static int tap_send(struct net *net, const struct net_header *header, struct sg *frame)
{
    struct tap *tap = tap_of(net);
    UNINITIALIZED struct iovec iov[1 + NET_FRAME_PIECES];
    unsigned count = sg_trim(frame);
    ssize_t sent;

    iov[0] = (struct iovec){ (void *)header, sizeof(*header) };
    memcpy(&iov[1], frame->iov, count * sizeof(*iov));
    do {
        tap->net.calls++;
        sent = writev(tap->fd, iov, (int)count + 1);
    } while (sent < 0 && errno == EINTR);

    if (sent >= 0)
        return 0;
    if (errno == EAGAIN)
        tap->watch.events |= POLLOUT;
    return -errno;
}

static ssize_t tap_receive(struct net *net, struct sg *room)
{
    unsigned count = sg_trim(room);
    ssize_t size;

    do {
        net->calls++;
        size = readv(tap_of(net)->fd, room->iov, (int)count);
    } while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : size;
}

static void tap_want_receive(struct net *net, bool want)
{
    struct watch *watch = &tap_of(net)->watch;

    watch->events = (short)((watch->events & ~POLLIN) | (want ? POLLIN : 0));
}

static void tap_set_offloads(struct net *net, uint64_t features)
{
    struct tap *tap = tap_of(net);
    unsigned long offloads = 0;

    /* The kernel refuses the other offloads without TUN_F_CSUM. */
    for (unsigned i = 0; i < ARRAY_SIZE(tap_offloads); i++)
        if (features & BIT(VIRTIO_NET_F_GUEST_CSUM) && features & BIT(tap_offloads[i].feature))
            offloads |= tap_offloads[i].offload;
    ioctl(tap->fd, TUNSETOFFLOAD, offloads); /* fails only if the interface was deleted */
}

static void tap_ready(struct watch *watch, short revents)
{
    struct tap *tap = container_of(watch, struct tap, watch);

    if (revents & (POLLERR | POLLHUP | POLLNVAL)) {
        log_warn("tap %s was deleted: the guest has no network any more", tap->name);
        watch->fd = -1; /* or poll() would report it again and again */
        tap->net.client.lost(tap->net.client.owner);
        return;
    }
    if (revents & POLLOUT) {
        watch->events &= ~POLLOUT;
        tap->net.client.writable(tap->net.client.owner);
    }
    if (revents & POLLIN)
        tap->net.client.readable(tap->net.client.owner);
}

static void tap_pause(struct net *net)
{
    struct tap *tap = tap_of(net);

    loop_remove(tap->loop, &tap->watch);
    tap->paused = true;
}

static void tap_resume(struct net *net)
{
    struct tap *tap = tap_of(net);

    if (tap->paused)
        loop_add(tap->loop, &tap->watch);
    tap->paused = false;
}

static void tap_close(struct net *net)
{
    struct tap *tap = tap_of(net);

    loop_remove(tap->loop, &tap->watch);
    close(tap->fd);
    free(tap);
}

static const struct net_ops tap_ops = {
    .send = tap_send,
    .receive = tap_receive,
    .want_receive = tap_want_receive,
    .set_offloads = tap_set_offloads,
    .pause = tap_pause,
    .resume = tap_resume,
    .close = tap_close,
};

/* Prints why TUNSETIFF failed. */
static int tap_explain(int error, const char *name)
{
    switch (error) {
    case EPERM:
        return log_refuse(error,
                          "tap %s belongs to another user: as root, create it with ip tuntap add "
                          "dev %s mode tap user $USER",
                          name, name);
    case EBUSY:
        return log_refuse(error, "tap %s is in use by another program: choose another one", name);
    case EINVAL:
        return log_refuse(error,
                          "%s is not a tap interface with one queue: create one with ip tuntap "
                          "add mode tap",
                          name);
    default:
        return log_error(error, "open tap %s", name);
    }
}

/* Returns a descriptor of the interface, or -errno. */
static int tap_open_name(const char *name)
{
    struct ifreq request = { .ifr_flags = TAP_FLAGS };
    cleanup_close int fd = -1;

    /* For root TUNSETIFF would create the interface, but not connect it to any network. */
    if (strlen(name) >= IFNAMSIZ || !if_nametoindex(name))
        return log_refuse(ENODEV,
                          "no interface %s: as root, ip tuntap add dev %s mode tap user $USER && "
                          "ip link set %s up",
                          name, name, name);

    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENODEV))
        return log_refuse(errno, "no /dev/net/tun: modprobe tun loads it");
    if (fd < 0)
        return log_error(errno, "open /dev/net/tun");

    strcpy(request.ifr_name, name);
    if (ioctl(fd, TUNSETIFF, &request) < 0)
        return tap_explain(errno, name);
    return take_fd(&fd);
}

/* Checks and sets up the tap behind `fd`. */
static int tap_set_up(struct tap *tap, int fd)
{
    struct ifreq request = { 0 };
    int header_size = NET_HEADER_SIZE;
    int flags = fcntl(fd, F_GETFL);

    if (ioctl(fd, TUNGETIFF, &request) < 0 || !(request.ifr_flags & IFF_TAP))
        return log_refuse(EINVAL, "descriptor %d is not an open tap interface", fd);
    if ((request.ifr_flags & TAP_FLAGS) != TAP_FLAGS)
        return log_refuse(EINVAL,
                          "tap descriptor %d was not opened with IFF_VNET_HDR and IFF_NO_PI", fd);
    if (ioctl(fd, TUNSETVNETHDRSZ, &header_size) < 0 || ioctl(fd, TUNSETOFFLOAD, 0) < 0 ||
        fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return log_error(errno, "set up tap %s", request.ifr_name);

    memcpy(tap->name, request.ifr_name, sizeof(tap->name));
    tap->fd = fd;
    return 0;
}

int tap_open(struct net **ret, const struct tap_options *options, struct loop *loop)
{
    cleanup_close int opened = -1;
    cleanup_free struct tap *tap = calloc(1, sizeof(*tap));
    int error;

    if (!tap)
        return log_error(ENOMEM, "tap");
    if (options->interface) {
        opened = tap_open_name(options->interface);
        if (opened < 0)
            return opened;
    }
    error = tap_set_up(tap, options->interface ? opened : options->fd);
    if (error < 0)
        return error;

    take_fd(&opened);
    tap->net.ops = &tap_ops;
    tap->net.offloads = TAP_FEATURES;
    tap->loop = loop;
    tap->watch = (struct watch){ .fd = tap->fd, .ready = tap_ready };
    loop_add(loop, &tap->watch);
    *ret = &tap->net;
    tap = NULL;
    return 0;
}

int tap_fd(struct net *net)
{
    return tap_of(net)->fd;
}
