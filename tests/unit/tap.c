/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "devices/net/tap.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

/*
 * Real taps in a network namespace of the test's own; this host is 10.1.0.1 on the other side.
 * Skipped if the host does not permit that.
 */
#define FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

struct wake {
    unsigned readable;
};

static struct loop *loop;
static struct net *net;
static struct wake wake;

static void on_readable(void *owner)
{
    ((struct wake *)owner)->readable++;
}

/* Creates a tap, persistent or until its descriptor is closed. Returns the descriptor or -1. */
static int make_tap(const char *name, int flags, bool persistent)
{
    struct ifreq request = { .ifr_flags = (short)flags };
    int fd = open("/dev/net/tun", O_RDWR);

    strcpy(request.ifr_name, name);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 &&
        (!persistent || ioctl(fd, TUNSETPERSIST, 1) == 0))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static void set_up_interface(const char *name)
{
    struct ifreq request = { 0 };
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(0x0a010001) } };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    strcpy(request.ifr_name, name);
    memcpy(&request.ifr_addr, &addr, sizeof(addr));
    ck_assert_int_eq(ioctl(fd, SIOCSIFADDR, &request), 0);
    addr.sin_addr.s_addr = htonl(0xffffff00);
    memcpy(&request.ifr_addr, &addr, sizeof(addr));
    ck_assert_int_eq(ioctl(fd, SIOCSIFNETMASK, &request), 0);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static void setup(void)
{
    loop = loop_create();
    net = NULL;
    wake = (struct wake){ 0 };
}

static void teardown(void)
{
    net_close(net);
    loop_destroy(loop);
}

static void turn(unsigned rounds)
{
    while (rounds--)
        loop_turn(loop, 1);
}

static int open_tap(const char *name, int fd)
{
    struct tap_options options = { .interface = name, .fd = fd };
    int error = tap_open(&net, &options, loop);

    if (error == 0)
        net->client = (struct net_client){ on_readable, on_readable, on_readable, &wake };
    return error;
}

static int send_bytes(const uint8_t *bytes, size_t size)
{
    const struct net_header header = { 0 };
    struct iovec iov[3] = { { (void *)bytes, 5 }, { NULL, 0 }, { (void *)(bytes + 5), size - 5 } };
    struct sg frame = { .iov = iov, .length = size };

    return net->ops->send(net, &header, &frame);
}

/* Receives a frame of an Ethernet type, in pieces; returns its size, or 0. */
static size_t receive_type(struct net_header *header, uint8_t *bytes, size_t room, uint16_t type)
{
    for (unsigned waited = 0; waited < 10;) {
        struct iovec iov[3] = { { header, 12 }, { bytes, 20 }, { bytes + 20, room - 20 } };
        struct sg sg = { .iov = iov, .length = 12 + room };
        ssize_t size = net->ops->receive(net, &sg);

        if (size > 12 && bytes[12] == type >> 8 && bytes[13] == (type & 0xff))
            return (size_t)size - 12;
        if (size < 0) {
            loop_turn(loop, 20);
            waited++;
        }
    }
    return 0;
}

/* The host answers ARP for its address. The request is repeated until the interface is up. */
static void exchange_arp(void)
{
    static const uint8_t ask[42] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0,  9, 8, 6,
                                     0,   1,   8,   0,   6,   4,   0, 1, 2, 0, 0,  0, 0, 9,
                                     10,  1,   0,   9,   0,   0,   0, 0, 0, 0, 10, 1, 0, 1 };
    struct net_header header;
    uint8_t answer[2048];
    unsigned tries = 0;
    size_t size;

    do {
        ck_assert_int_eq(send_bytes(ask, sizeof(ask)), 0);
        size = receive_type(&header, answer, sizeof(answer), 0x0806);
    } while (size == 0 && tries++ < 150);
    ck_assert_uint_eq(size, 42);
    ck_assert_uint_eq(answer[21], 2);
    ck_assert_mem_eq(answer + 28, ask + 38, 4);
}

/* The host broadcasts a datagram into the tap. */
static void broadcast(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(9),
                              .sin_addr = { htonl(0x0a0100ff) } };
    int fd = socket(AF_INET, SOCK_DGRAM, 0), yes = 1;

    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &yes, sizeof(yes));
    ck_assert_int_eq(sendto(fd, "hey", 3, 0, (void *)&to, sizeof(to)), 3);
    close(fd);
}

static void open_named(void)
{
    setup();
    close(make_tap("test0", FLAGS, true));
    set_up_interface("test0");
    ck_assert_int_eq(open_tap("test0", -1), 0);
    exchange_arp(); /* the host drops frames until the interface is up */
}

START_TEST(by_name)
{
    exchange_arp();
}
END_TEST

START_TEST(readable_only_while_receive_is_wanted)
{
    broadcast();
    turn(3);
    ck_assert_uint_eq(wake.readable, 0);
    net->ops->want_receive(net, true);
    for (unsigned i = 0; i < 30 && wake.readable == 0; i++)
        loop_turn(loop, 1000);
    ck_assert_uint_gt(wake.readable, 0);

    net->ops->want_receive(net, false);
    wake.readable = 0;
    turn(3);
    ck_assert_uint_eq(wake.readable, 0);
}
END_TEST

START_TEST(no_calls_while_paused)
{
    net->ops->want_receive(net, true);
    net_pause(net);
    broadcast();
    turn(3);
    ck_assert_uint_eq(wake.readable, 0);
    net_resume(net);
    net_resume(net); /* no effect: it is not paused */
    turn(3);
    ck_assert_uint_gt(wake.readable, 0);
    exchange_arp();
}
END_TEST

/* The host sends partial checksums only if the guest has negotiated them. */
START_TEST(offloads_as_negotiated)
{
    const uint64_t sets[] = {
        0,
        BIT(VIRTIO_NET_F_GUEST_CSUM),
        BIT(VIRTIO_NET_F_GUEST_TSO4), /* no effect without GUEST_CSUM */
        net->offloads,
        0,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(sets); i++) {
        struct net_header header;
        uint8_t frame[2048];

        net->ops->set_offloads(net, sets[i]);
        broadcast();
        ck_assert_uint_gt(receive_type(&header, frame, sizeof(frame), 0x0800), 0);
        ck_assert_uint_eq(header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM,
                          sets[i] & BIT(VIRTIO_NET_F_GUEST_CSUM) ? 1 : 0);
    }
}
END_TEST

/* The kernel, too, refuses headers that the NIC would not pass on, and the tap still works. */
START_TEST(header_beyond_the_frame)
{
    const struct net_header bad = { .flags = 1, .csum_start = { 0xfff0 } };
    struct iovec iov = { (uint8_t[60]){ 0 }, 60 };
    struct sg frame = { .iov = &iov, .length = 60 };

    ck_assert_int_eq(net->ops->send(net, &bad, &frame), -EINVAL);
    exchange_arp();
}
END_TEST

/* The interface is deleted: the loop must not spin on its descriptor. */
START_TEST(interface_is_deleted)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
    } request = {
        .header = { sizeof(request), RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0 },
        .info = { .ifi_index = (int)if_nametoindex("test0") },
    };
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct timespec before, after;

    net->ops->want_receive(net, true);
    ck_assert_int_eq(send(fd, &request, sizeof(request), 0), sizeof(request));
    ck_assert_int_gt(recv(fd, &request, sizeof(request), 0), 0);
    close(fd);

    loop_turn(loop, 0);
    clock_gettime(CLOCK_MONOTONIC, &before);
    loop_turn(loop, 100);
    clock_gettime(CLOCK_MONOTONIC, &after);
    ck_assert_int_ge(
        (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000, 90);
}
END_TEST

START_TEST(by_descriptor)
{
    int fd = make_tap("test1", FLAGS, false);

    set_up_interface("test1");
    ck_assert_int_eq(open_tap(NULL, fd), 0);
    ck_assert_int_eq(tap_fd(net), fd);
    ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    exchange_arp();
}
END_TEST

static const struct {
    const char *made, *opened;
    int flags, error;
} refusals[] = {
    { NULL, "test9", 0, -ENODEV },
    { NULL, "", 0, -ENODEV },
    { NULL, "a-name-longer-than-any", 0, -ENODEV },
    { NULL, "lo", 0, -EINVAL },
    { "test2", "test2", FLAGS, -EBUSY },
    { "test3", NULL, IFF_TAP | IFF_NO_PI, -EINVAL },
    { "test5", NULL, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, -EINVAL },
    { NULL, NULL, 0, -EINVAL }, /* stdin is not a tap */
    { "test6", "test6", IFF_TUN | IFF_NO_PI, -EINVAL },
};

START_TEST(refused)
{
    int fd = refusals[_i].made ? make_tap(refusals[_i].made, refusals[_i].flags, false) : 0;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(open_tap(refusals[_i].opened, fd), refusals[_i].error);
    ck_assert_int_ge(fcntl(fd, F_GETFD), 0); /* still the caller's */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap");
    TCase *named = tcase_create("named"), *other = tcase_create("other");

    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return unit_skip_all("this user may not create a network namespace");
    if (make_tap("probe", FLAGS, false) < 0)
        return unit_skip_all("this user may not create a tap by /dev/net/tun");

    tcase_add_checked_fixture(named, open_named, teardown);
    tcase_add_test(named, by_name);
    tcase_add_test(named, readable_only_while_receive_is_wanted);
    tcase_add_test(named, no_calls_while_paused);
    tcase_add_test(named, offloads_as_negotiated);
    tcase_add_test(named, header_beyond_the_frame);
    tcase_add_test(named, interface_is_deleted);
    suite_add_tcase(suite, named);

    tcase_add_checked_fixture(other, setup, teardown);
    tcase_add_test(other, by_descriptor);
    tcase_add_loop_test(other, refused, 0, ARRAY_SIZE(refusals));
    suite_add_tcase(suite, other);
    return unit_run(suite);
}
