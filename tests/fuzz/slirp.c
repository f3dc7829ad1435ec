/* SPDX-License-Identifier: MIT */

/*
 * Frames of a guest for libslirp, through our back-end and its filter. The input is a list of
 * actions: ARP, UDP, ICMP and TCP over both versions of IP with right lengths and checksums, any
 * bytes, and what happens on the host. No socket of the host's is used: every one of libslirp's is
 * one end of a pair, and the other end is the input's. Time passes when the input says so.
 */
#include "devices/net/slirp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "firmware/init/user_network.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define PEERS       32u
#define CONNECTIONS 4u
#define PORT        1000u /* of the guest's first connection */
#define L4_MAX      16384u
#define IP4_SIZE    20u
#define IP6_SIZE    40u

enum {
    RAW,
    ARP,
    UDP,
    ICMP,
    TCP,
    CONTINUE,
    SPOIL,
    PEER_SENDS,
    PEER_ENDS,
    CONNECT_FAILS,
    TIME_PASSES,
    TURN,
    PAUSE,
    OFFLOADS,
    ACTIONS
};

/* The host, as libslirp sees it. */
static int peers[PEERS]; /* our ends, or 0 */
static int connect_error;
static bool inside; /* a run, and not the fuzzing engine */
static uint64_t now_ns;

static struct net *net;
static struct loop *loop;
static uint8_t frame[ETH_HLEN + IP6_SIZE + L4_MAX];
static size_t last_size;
static struct net_header last_header;
static uint32_t sequence[CONNECTIONS], acknowledged[CONNECTIONS];

/* In place of libc's, whose declarations have unions for addresses. */
#pragma GCC diagnostic ignored "-Wpedantic"

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (!inside || clock != CLOCK_MONOTONIC)
        return (int)syscall(SYS_clock_gettime, clock, ret);
    *ret = (struct timespec){ (time_t)(now_ns / 1000000000u), (long)(now_ns % 1000000000u) };
    return 0;
}

int socket(int family, int type, int protocol)
{
    int pair[2], kind = (type & 15) == SOCK_STREAM ? SOCK_STREAM : SOCK_DGRAM;

    for (unsigned i = 0; i < PEERS; i++)
        if (!peers[i]) {
            demand(socketpair(AF_UNIX, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
            peers[i] = pair[1];
            return pair[0];
        }
    errno = EMFILE;
    return -1;
}

int connect(int fd, const struct sockaddr *addr, socklen_t size)
{
    errno = connect_error;
    return connect_error ? -1 : 0;
}

int bind(int fd, const struct sockaddr *addr, socklen_t size)
{
    return 0;
}

int listen(int fd, int backlog)
{
    return 0;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    return 0;
}

static int put_name(struct sockaddr *ret, socklen_t *size)
{
    const struct sockaddr_in name = { .sin_family = AF_INET,
                                      .sin_port = htons(53),
                                      .sin_addr = { htonl(0x5db8d822) } };

    memcpy(ret, &name, *size < sizeof(name) ? *size : sizeof(name));
    *size = sizeof(name);
    return 0;
}

int getsockname(int fd, struct sockaddr *ret, socklen_t *size)
{
    return put_name(ret, size);
}

int getpeername(int fd, struct sockaddr *ret, socklen_t *size)
{
    return put_name(ret, size);
}

ssize_t sendto(int fd, const void *bytes, size_t count, int flags, const struct sockaddr *addr,
               socklen_t size)
{
    return send(fd, bytes, count, flags | MSG_NOSIGNAL);
}

ssize_t recvfrom(int fd, void *bytes, size_t count, int flags, struct sockaddr *addr,
                 socklen_t *size)
{
    if (addr)
        put_name(addr, size);
    return recv(fd, bytes, count, flags);
}

static void put16(uint8_t *place, unsigned value)
{
    place[0] = (uint8_t)(value >> 8);
    place[1] = (uint8_t)value;
}

static void put32(uint8_t *place, uint32_t value)
{
    put16(place, value >> 16);
    put16(place + 2, value & 0xffff);
}

static uint32_t get32(const uint8_t *place)
{
    return (uint32_t)place[0] << 24 | (uint32_t)place[1] << 16 | (uint32_t)place[2] << 8 | place[3];
}

static uint32_t sum16(const uint8_t *bytes, size_t size, uint32_t sum)
{
    for (size_t i = 0; i + 1 < size; i += 2)
        sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static void send_frame(size_t size, const struct net_header *header)
{
    struct iovec iov = { frame, size };
    struct sg sg = { .iov = &iov, .length = size };

    last_size = size;
    last_header = *header;
    net->ops->send(net, header, &sg);
}

static void put_ethernet(unsigned type)
{
    static const uint8_t start[] = { 0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 1, 2, 3 };

    memcpy(frame, start, sizeof(start));
    put16(frame + 12, type);
}

static void put_ip4(struct input *in, uint8_t protocol, size_t size)
{
    static const uint32_t targets[] = { 0x5db8d822, USER_NETWORK_GATEWAY, USER_NETWORK_NAMESERVER,
                                        0xffffffff, USER_NETWORK_GUEST,   0x0a0002fe };
    uint8_t *ip = frame + ETH_HLEN;

    memset(ip, 0, IP4_SIZE);
    ip[0] = 0x45;
    put16(ip + 2, (unsigned)(IP4_SIZE + size));
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, USER_NETWORK_GUEST);
    put32(ip + 16, targets[take(in, 1) % ARRAY_SIZE(targets)]);
    put16(ip + 10, ~sum16(ip, IP4_SIZE, 0) & 0xffff);
}

static void put_ip6(struct input *in, uint8_t protocol, size_t size)
{
    static const uint8_t guest[16] = { USER_NETWORK6_GUEST };
    static const uint8_t targets[][16] = {
        { 0x26, 6, [15] = 1 }, { USER_NETWORK6_GATEWAY },       { USER_NETWORK6_NAMESERVER },
        { 0xff, 2, [15] = 2 }, { 0xff, 2, [13] = 1, [15] = 2 }, { 0xfe, 0x80, [15] = 2 }
    };
    uint8_t *ip = frame + ETH_HLEN;

    memset(ip, 0, IP6_SIZE);
    ip[0] = 0x60;
    put16(ip + 4, (unsigned)size);
    ip[6] = protocol;
    ip[7] = 255;
    memcpy(ip + 8, guest, 16);
    memcpy(ip + 24, targets[take(in, 1) % ARRAY_SIZE(targets)], 16);
}

/* Sends `size` bytes at the place of the payload, with a partial checksum as guests do. */
static void send_ip(struct input *in, bool is_ip6, uint8_t protocol, size_t size, unsigned checksum)
{
    size_t start = ETH_HLEN + (is_ip6 ? IP6_SIZE : IP4_SIZE);
    struct net_header header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
    uint32_t sum = protocol + (uint32_t)size;

    put_ethernet(is_ip6 ? ETH_P_IPV6 : ETH_P_IP);
    (is_ip6 ? put_ip6 : put_ip4)(in, protocol, size);
    sum = is_ip6 ? sum16(frame + ETH_HLEN + 8, 32, sum) : sum16(frame + ETH_HLEN + 12, 8, sum);
    put16(frame + start + checksum, protocol == IPPROTO_ICMP ? 0 : sum);
    le16_store(&header.csum_start, (uint16_t)start);
    le16_store(&header.csum_offset, (uint16_t)checksum);
    send_frame(start + size, &header);
}

static uint8_t *payload_of(bool is_ip6)
{
    return frame + ETH_HLEN + (is_ip6 ? IP6_SIZE : IP4_SIZE);
}

/* Bytes of the input, and then the same byte again: a long payload needs no long input. */
static size_t fill(struct input *in, uint8_t *place)
{
    unsigned given = take(in, 1) % 64, more = take(in, 1);
    size_t size = given + (more & 0x80 ? (more & 0x7f) * 64u : 0);

    for (unsigned i = 0; i < given; i++)
        place[i] = (uint8_t)take(in, 1);
    memset(place + given, (int)more, size - given);
    return size;
}

static void send_udp(struct input *in, unsigned how)
{
    static const uint16_t ports[] = { 67, 53, 69, 547, 9, 0 };
    uint8_t *udp = payload_of(how & 1);
    size_t size = 8 + fill(in, udp + 8);

    put16(udp, 68 + (how >> 1 & 3));
    put16(udp + 2, ports[take(in, 1) % ARRAY_SIZE(ports)]);
    put16(udp + 4, (unsigned)size);
    send_ip(in, how & 1, IPPROTO_UDP, size, 6);
}

static void send_icmp(struct input *in, unsigned how)
{
    static const uint8_t types6[] = { 128, 133, 135, 136 };
    uint8_t *icmp = payload_of(how & 1);
    size_t size = 4 + fill(in, icmp + 4);

    icmp[0] = how & 1 ? types6[how >> 1 & 3] : (how >> 1 & 3 ? 8 : (uint8_t)take(in, 1));
    icmp[1] = 0;
    send_ip(in, how & 1, how & 1 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, size, 2);
}

/* A segment of a connection, mostly where libslirp expects it. */
static void send_tcp(struct input *in, unsigned how)
{
    unsigned i = how >> 1 & (CONNECTIONS - 1), flags = take(in, 1);
    uint8_t *tcp = payload_of(how & 1);
    size_t options = flags & 2 ? 4 : 0, size = fill(in, tcp + 20 + options);
    uint32_t shift = how & 8 ? take(in, 1) : 0; /* a gap, or with 128 and more an old segment */

    put16(tcp, PORT + i);
    put16(tcp + 2, 80);
    put32(tcp + 4, sequence[i] + shift - (shift & 0x80 ? 256 : 0));
    put32(tcp + 8, acknowledged[i]);
    tcp[12] = (uint8_t)((20 + options) << 2);
    tcp[13] = (uint8_t)(flags & 0x3f);
    put16(tcp + 14, how & 16 ? take(in, 1) : 0xffff);
    put16(tcp + 18, flags & 0x20 ? take(in, 2) : 0);
    if (options)
        put32(tcp + 20, 0x02040000 | (how & 16 ? take(in, 2) : 1460));
    if (!shift)
        sequence[i] += (uint32_t)size + (flags & 1) + (flags >> 1 & 1);
    send_ip(in, how & 1, IPPROTO_TCP, 20 + options + size, 16);
}

static void send_arp(struct input *in)
{
    static const uint8_t start[] = { 0, 1, 8, 0, 6, 4, 0, 1 };

    put_ethernet(ETH_P_ARP);
    memcpy(frame + ETH_HLEN, start, sizeof(start));
    memcpy(frame + ETH_HLEN + 8, frame + 6, 6);
    put32(frame + ETH_HLEN + 14, USER_NETWORK_GUEST);
    put32(frame + ETH_HLEN + 24, USER_NETWORK | take(in, 1));
    frame[ETH_HLEN + 7] = (uint8_t)take(in, 1);
    send_frame(ETH_HLEN + 28, &(struct net_header){ 0 });
}

static void send_raw(struct input *in, unsigned how)
{
    put_ethernet(how & 1 ? ETH_P_IPV6 : ETH_P_IP);
    send_frame(ETH_HLEN + fill(in, frame + ETH_HLEN), &(struct net_header){ 0 });
}

/* The last frame again, with another byte. */
static void spoil(struct input *in)
{
    if (last_size == 0)
        return;
    frame[take(in, 1) % last_size] = (uint8_t)take(in, 1);
    send_frame(last_size, &last_header);
}

/* The next segment of its connection acknowledges this one. */
static void learn(const uint8_t *bytes, size_t size)
{
    bool is_ip6 = bytes[12] == 0x86;
    size_t start = ETH_HLEN + (is_ip6 ? IP6_SIZE : IP4_SIZE);
    const uint8_t *tcp = bytes + start;
    unsigned i;

    if (size < start + 20 || bytes[ETH_HLEN + (is_ip6 ? 6 : 9)] != IPPROTO_TCP)
        return;
    i = (unsigned)(tcp[2] << 8 | tcp[3]) - PORT;
    if (i < CONNECTIONS)
        acknowledged[i] = get32(tcp + 4) + (uint32_t)(size - start - (tcp[12] >> 4) * 4u) +
                          (tcp[13] & 1) + (tcp[13] >> 1 & 1);
}

static void receive_all(void)
{
    static uint8_t bytes[NET_HEADER_SIZE + NET_FRAME_MAX];
    struct iovec iov = { bytes, sizeof(bytes) };
    struct sg room = { .iov = &iov, .length = sizeof(bytes) };
    ssize_t size;

    while ((size = net->ops->receive(net, &room)) > 0) {
        demand((size_t)size >= NET_HEADER_SIZE + ETH_HLEN);
        learn(bytes + NET_HEADER_SIZE, (size_t)size - NET_HEADER_SIZE);
        iov = (struct iovec){ bytes, sizeof(bytes) };
        room = (struct sg){ .iov = &iov, .length = sizeof(bytes) };
    }
}

/* libslirp's ends are read, or senders would wait; what they say is of no interest. */
static void peer_sends(struct input *in, unsigned how)
{
    static uint8_t bytes[L4_MAX];
    int fd = peers[how % PEERS];
    size_t size = fill(in, bytes);

    if (!fd)
        return;
    while (read(fd, &(uint8_t[4096]){ 0 }, 4096) > 0)
        ;
    if (send(fd, bytes, size, MSG_NOSIGNAL) < 0)
        demand(errno != EBADF);
}

static void peer_ends(unsigned how)
{
    if (!peers[how % PEERS])
        return;
    if (how & 0x80) {
        shutdown(peers[how % PEERS], SHUT_WR);
    } else {
        close(peers[how % PEERS]);
        peers[how % PEERS] = 0;
    }
}

/*
 * Not ECONNREFUSED, which only an address of the host gives at once: up to 4.9.3 libslirp frees the
 * segment that it answers with (tcp_input.c), and every run would end there.
 */
static void act(struct input *in)
{
    static const int errors[] = { 0, EINPROGRESS, EHOSTUNREACH, ENETUNREACH };
    unsigned action = take(in, 1), how = take(in, 1);

    switch (action % ACTIONS) {
    case RAW:
        send_raw(in, how);
        break;
    case ARP:
        send_arp(in);
        break;
    case UDP:
        send_udp(in, how);
        break;
    case ICMP:
        send_icmp(in, how);
        break;
    case TCP:
    case CONTINUE:
        send_tcp(in, how);
        break;
    case SPOIL:
        spoil(in);
        break;
    case PEER_SENDS:
        peer_sends(in, how);
        break;
    case PEER_ENDS:
        peer_ends(how);
        break;
    case CONNECT_FAILS:
        connect_error = errors[how % ARRAY_SIZE(errors)];
        break;
    case TIME_PASSES:
        now_ns += how * 100000000ull << (how & 7);
        loop_turn(loop, 0);
        break;
    case PAUSE:
        net->ops->pause(net);
        now_ns += how * 100000000ull;
        net->ops->resume(net);
        break;
    case OFFLOADS:
        net->ops->set_offloads(net, (uint64_t)how << VIRTIO_NET_F_GUEST_CSUM);
        break;
    default:
        loop_turn(loop, 0);
    }
    receive_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The filter asks the kernel about addresses only without this. */
    const struct slirp_options options = { .host_loopback = true };
    struct input in = { data, size };

    log_set_level(LOG_LEVEL_ERROR);
    signal(SIGPIPE, SIG_IGN); /* as minivmm-net does */
    if (!loop)
        demand((loop = loop_create()) != NULL);
    memset(sequence, 0, sizeof(sequence));
    memset(acknowledged, 0, sizeof(acknowledged));
    connect_error = 0;
    last_size = 0;
    now_ns = 1000000000000;
    inside = true;
    demand(slirp_open(&net, &options, loop) == 0);
    net->ops->want_receive(net, false);
    while (in.size > 0)
        act(&in);
    net->ops->close(net);
    inside = false;
    for (unsigned i = 0; i < PEERS; i++) {
        if (peers[i])
            close(peers[i]);
        peers[i] = 0;
    }
    return 0;
}
