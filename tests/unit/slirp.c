/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "devices/net/slirp.h"
#include "devices/net/user.h"
#include "devices/virtio/net.h"
#include "settings.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"

/*
 * A fake guest on the real libslirp and the host's real loopback: frames are built byte by byte and
 * pass through virtio-net in both directions. With an argument, "process", libslirp is not in this
 * process but in a confined minivmm-net.
 */
#define RX         0
#define TX         1
#define BUFFERS    32u
#define TX_PLACE   DRIVER_BUFFERS
#define RX_PLACE   (DRIVER_BUFFERS + 0x10000u)
#define RX_STEP    2048u
#define ETH        14
#define TIME_LIMIT 30 /* seconds: the host may be busy */

static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
static const uint8_t slirp_mac[6] = { 0x52, 0x55, 10, 0, 2, 2 };
static const uint8_t broadcast_mac[6] = { 255, 255, 255, 255, 255, 255 };

static bool in_process;
static struct driver d;
static struct net *net;
static time_t ahead; /* seconds added to every clock */

/* Replaces libc's. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int error = (int)syscall(SYS_clock_gettime, clock, ret);

    ret->tv_sec += ahead;
    return error;
}

/* A host socket on 127.0.0.1 (or ::1) and a free port; a TCP socket listens. */
struct server {
    int fd;
    uint16_t port;
};

static struct server server_open(int family, int type)
{
    struct sockaddr_in6 addr6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    struct sockaddr_in addr4 = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct sockaddr *addr = family == AF_INET ? (void *)&addr4 : (void *)&addr6;
    socklen_t size = family == AF_INET ? sizeof(addr4) : sizeof(addr6);
    struct server server = { .fd = socket(family, type | SOCK_NONBLOCK, 0) };

    ck_assert_int_ge(server.fd, 0);
    ck_assert_int_eq(bind(server.fd, addr, size), 0);
    ck_assert_int_eq(getsockname(server.fd, addr, &size), 0);
    if (type == SOCK_STREAM)
        ck_assert_int_eq(listen(server.fd, 5), 0);
    server.port = ntohs(family == AF_INET ? addr4.sin_port : addr6.sin6_port);
    return server;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void post(unsigned index)
{
    driver_describe(&d, RX, index, RX_PLACE + index * RX_STEP, RX_STEP, DRIVER_WRITE, 0);
    driver_publish(&d, RX, (uint16_t)index);
}

static void post_all(void)
{
    for (unsigned i = 0; i < BUFFERS; i++)
        post(i);
    driver_kick(&d, RX);
}

static int open_user(const struct slirp_options *options)
{
    int error = user_start(&net, &(struct user_options){ .network = *options, .fd = -1 });

    if (error)
        return error;
    user_attach(net, d.loop);
    error = user_wait(net);
    if (!error)
        return 0;
    net_close(net);
    net = NULL;
    return error;
}

static int open_net(const struct slirp_options *options)
{
    int error;

    net = NULL;
    driver_init(&d);
    error = in_process ? open_user(options) : slirp_open(&net, options, d.loop);
    if (error < 0) {
        ck_assert_ptr_null(net);
        loop_destroy(d.loop);
        guest_memory_destroy(d.mem);
        return error;
    }
    ck_assert_int_eq(virtio_net_create(&d.device, "net0", net, guest_mac, d.mem, d.loop), 0);
    ck_assert(driver_start(&d, d.device, 0));
    return 0;
}

static void send_frame_with(const struct net_header *header, const void *frame, size_t size)
{
    memcpy(driver_ram(&d, TX_PLACE), header, NET_HEADER_SIZE);
    memcpy(driver_ram(&d, TX_PLACE + NET_HEADER_SIZE), frame, size);
    driver_describe(&d, TX, 0, TX_PLACE, (uint32_t)(NET_HEADER_SIZE + size), 0, 0);
    driver_publish(&d, TX, 0);
    driver_kick(&d, TX);
    ck_assert(driver_wait(&d, TX, NULL, NULL));
}

static void send_frame(const void *frame, size_t size)
{
    send_frame_with(&(struct net_header){ 0 }, frame, size);
}

/* Receives a frame into `frame`, which holds RX_STEP bytes; false at the time limit. */
static bool receive_frame(uint8_t *frame, unsigned ms)
{
    uint32_t head, written;

    if (!driver_wait_ms(&d, RX, ms, &head, &written))
        return false;
    memset(frame, 0, RX_STEP);
    memcpy(frame, driver_ram(&d, RX_PLACE + head * RX_STEP + NET_HEADER_SIZE),
           written - NET_HEADER_SIZE);
    post(head);
    driver_kick(&d, RX);
    return true;
}

/* Receives a frame of this Ethernet type and, if IP, this protocol and destination port. */
static bool receive_kind(uint8_t *frame, uint16_t type, uint8_t protocol, uint16_t port)
{
    double deadline = now() + TIME_LIMIT;

    while (now() < deadline && receive_frame(frame, TIME_LIMIT * 1000)) {
        if (frame[12] << 8 != (type & 0xff00) || frame[13] != (type & 0xff))
            continue;
        if (type != 0x0800 ||
            (frame[ETH + 9] == protocol && frame[ETH + 22] << 8 == (port & 0xff00) &&
             frame[ETH + 23] == (port & 0xff)))
            return true;
    }
    return false;
}

static uint32_t sum_up(uint32_t sum, const void *bytes, size_t size)
{
    const uint8_t *byte = bytes;

    for (size_t i = 0; i < size; i++)
        sum += i % 2 ? byte[i] : (uint32_t)byte[i] << 8;
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static size_t put_ethernet(uint8_t *frame, const uint8_t *to, uint16_t type)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, guest_mac, 6);
    frame[12] = (uint8_t)(type >> 8);
    frame[13] = (uint8_t)type;
    return ETH;
}

/* Puts an Ethernet and an IP header, of either version, in front of a payload of `size` bytes. */
static size_t put_ip(uint8_t *frame, const char *to, uint8_t protocol, size_t size,
                     uint32_t *ret_sum)
{
    struct ip6_hdr ip6 = { .ip6_plen = htons((uint16_t)size), .ip6_nxt = protocol, .ip6_hlim = 64 };
    struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = protocol };

    *ret_sum = protocol + (uint32_t)size;
    if (inet_pton(AF_INET, to, &ip.daddr) == 1) {
        inet_pton(AF_INET, "10.0.2.15", &ip.saddr);
        ip.tot_len = htons((uint16_t)(sizeof(ip) + size));
        ip.check = fold(sum_up(0, &ip, sizeof(ip)));
        memcpy(frame + put_ethernet(frame, slirp_mac, 0x0800), &ip, sizeof(ip));
        *ret_sum = sum_up(*ret_sum, &ip.saddr, 8);
        return ETH + sizeof(ip);
    }
    ip6.ip6_vfc = 0x60;
    inet_pton(AF_INET6, "fec0::15", &ip6.ip6_src);
    ck_assert_int_eq(inet_pton(AF_INET6, to, &ip6.ip6_dst), 1);
    memcpy(frame + put_ethernet(frame, slirp_mac, 0x86dd), &ip6, sizeof(ip6));
    *ret_sum = sum_up(*ret_sum, &ip6.ip6_src, 32);
    return ETH + sizeof(ip6);
}

struct tcp_peer {
    const char *host;
    uint16_t host_port, guest_port;
    uint32_t seq, ack;
};

static void send_tcp_urgent(struct tcp_peer *peer, uint8_t flags, const char *text, uint16_t urgent)
{
    struct tcphdr tcp = { .source = htons(peer->guest_port),
                          .dest = htons(peer->host_port),
                          .seq = htonl(peer->seq),
                          .ack_seq = htonl(peer->ack),
                          .doff = 5,
                          .window = htons(65000),
                          .urg_ptr = htons(urgent) };
    size_t length = strlen(text), at;
    uint8_t frame[1514];
    uint32_t sum;

    at = put_ip(frame, peer->host, IPPROTO_TCP, sizeof(tcp) + length, &sum);
    tcp.th_flags = flags;
    tcp.check = fold(sum_up(sum_up(sum, &tcp, sizeof(tcp)), text, length));
    memcpy(frame + at, &tcp, sizeof(tcp));
    memcpy(frame + at + sizeof(tcp), text, length);
    send_frame(frame, at + sizeof(tcp) + length);
    peer->seq += (uint32_t)length + (flags & TH_SYN ? 1 : 0);
}

static void send_tcp(struct tcp_peer *peer, uint8_t flags, const char *text)
{
    send_tcp_urgent(peer, flags, text, 0);
}

static void send_udp(const char *host, uint16_t host_port, uint16_t guest_port, const void *bytes,
                     size_t length)
{
    struct udphdr udp = { .source = htons(guest_port),
                          .dest = htons(host_port),
                          .len = htons((uint16_t)(sizeof(udp) + length)) };
    uint8_t frame[1514];
    uint32_t sum;
    size_t at = put_ip(frame, host, IPPROTO_UDP, sizeof(udp) + length, &sum);

    udp.check = fold(sum_up(sum_up(sum, &udp, sizeof(udp)), bytes, length));
    memcpy(frame + at, &udp, sizeof(udp));
    memcpy(frame + at + sizeof(udp), bytes, length);
    send_frame(frame, at + sizeof(udp) + length);
}

static void send_arp(uint8_t wanted)
{
    uint8_t frame[42] = { 0 };
    static const uint8_t ask[] = { 0, 1, 8, 0, 6, 4, 0, 1 };

    put_ethernet(frame, broadcast_mac, 0x0806);
    memcpy(frame + ETH, ask, sizeof(ask));
    memcpy(frame + ETH + 8, guest_mac, 6);
    memcpy(frame + ETH + 14, (uint8_t[]){ 10, 0, 2, 15 }, 4);
    memcpy(frame + ETH + 24, (uint8_t[]){ 10, 0, 2, wanted }, 4);
    send_frame(frame, sizeof(frame));
}

static bool arp_answered(void)
{
    uint8_t frame[RX_STEP];

    send_arp(2);
    return receive_kind(frame, 0x0806, 0, 0) && frame[ETH + 7] == 2 &&
           !memcmp(frame + ETH + 8, slirp_mac, 6) && !memcmp(frame, guest_mac, 6);
}

/* Sends a frame, so that slirp knows the guest's address. */
static void announce_guest(void)
{
    post_all();
    ck_assert(arp_answered());
}

static void open_guest(const struct slirp_options *options)
{
    ck_assert_int_eq(open_net(options), 0);
    announce_guest();
}

static void open_plain(void)
{
    open_guest(&(struct slirp_options){ 0 });
}

static void open_loopback(void)
{
    open_guest(&(struct slirp_options){ .host_loopback = true });
}

static void finish(void)
{
    driver_finish(&d);
}

START_TEST(dhcp_offers_an_address)
{
    uint8_t frame[RX_STEP], request[300] = { 1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44 };
    const uint8_t *offer = frame + ETH + 28;

    memcpy(request + 28, guest_mac, 6);
    memcpy(request + 236, (uint8_t[]){ 99, 130, 83, 99, 53, 1, 1, 255 }, 8); /* DISCOVER */
    send_udp("255.255.255.255", 67, 68, request, sizeof(request));
    ck_assert(receive_kind(frame, 0x0800, IPPROTO_UDP, 68));
    ck_assert_mem_eq(offer + 4, request + 4, 4);
    ck_assert_mem_eq(offer + 16, ((uint8_t[]){ 10, 0, 2, 15 }), 4);
    ck_assert_mem_eq(offer + 240, ((uint8_t[]){ 53, 1, 2 }), 3); /* OFFER */
}
END_TEST

/* As recv(), but runs the loop until there is something. */
static ssize_t recv_from_guest(int fd, void *bytes, size_t room)
{
    double deadline = now() + TIME_LIMIT;
    ssize_t size;

    do {
        loop_turn(d.loop, 1);
        size = recv(fd, bytes, room, MSG_DONTWAIT);
    } while (size < 0 && errno == EAGAIN && now() < deadline);
    return size;
}

static bool wait_readable(int fd)
{
    struct pollfd readable = { .fd = fd, .events = POLLIN };
    double deadline = now() + TIME_LIMIT;

    do
        loop_turn(d.loop, 1);
    while (poll(&readable, 1, 0) == 0 && now() < deadline);
    return readable.revents;
}

static int accept_for(struct server *server, double seconds)
{
    double deadline = now() + seconds;
    int fd;

    do {
        loop_turn(d.loop, 5);
        fd = accept(server->fd, NULL, NULL);
    } while (fd < 0 && now() < deadline);
    return fd;
}

/* Connects the guest's port 4000; returns the server's end. */
static int connect_guest(struct tcp_peer *peer, struct server *server)
{
    uint8_t frame[RX_STEP];
    int fd;

    send_tcp(peer, TH_SYN, "");
    ck_assert(receive_kind(frame, 0x0800, IPPROTO_TCP, 4000));
    ck_assert_uint_eq(frame[ETH + 33], TH_SYN | TH_ACK);
    memcpy(&peer->ack, frame + ETH + 24, 4);
    peer->ack = ntohl(peer->ack) + 1;
    send_tcp(peer, TH_ACK, "");
    fd = accept_for(server, TIME_LIMIT);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(tcp_reaches_the_host)
{
    struct server server = server_open(AF_INET, SOCK_STREAM);
    struct tcp_peer peer = { "10.0.2.2", server.port, 4000, 1000, 0 };
    int fd = connect_guest(&peer, &server);
    uint8_t frame[RX_STEP];
    char text[16] = "";

    send_tcp(&peer, TH_ACK | TH_PUSH, "hello");
    ck_assert_int_eq(recv_from_guest(fd, text, sizeof(text)), 5);
    ck_assert_str_eq(text, "hello");

    ck_assert_int_eq(write(fd, "world", 5), 5);
    do
        ck_assert(receive_kind(frame, 0x0800, IPPROTO_TCP, 4000));
    while (memcmp(frame + ETH + 40, "world", 5));
    close(fd);
    close(server.fd);
}
END_TEST

/* Sends a segment of `size` bytes, also an odd number, with NEEDS_CSUM. */
static void send_large(struct tcp_peer *peer, const void *bytes, size_t size)
{
    static uint8_t frame[16000];
    struct tcphdr tcp = { .source = htons(peer->guest_port),
                          .dest = htons(peer->host_port),
                          .seq = htonl(peer->seq),
                          .ack_seq = htonl(peer->ack),
                          .doff = 5,
                          .window = htons(65000),
                          .ack = 1 };
    struct net_header header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
    uint32_t sum;
    size_t at = put_ip(frame, peer->host, IPPROTO_TCP, sizeof(tcp) + size, &sum);

    tcp.check = (uint16_t)~fold(sum);
    le16_store(&header.csum_start, (uint16_t)at);
    le16_store(&header.csum_offset, 16);
    memcpy(frame + at, &tcp, sizeof(tcp));
    memcpy(frame + at + sizeof(tcp), bytes, size);
    send_frame_with(&header, frame, at + sizeof(tcp) + size);
    peer->seq += (uint32_t)size;
}

/* Receives a frame that may be in several buffers. */
static size_t receive_large(struct net_header *ret_header)
{
    unsigned left = 1;
    size_t size = 0;

    while (left-- > 0) {
        uint32_t head, written;

        ck_assert(driver_wait(&d, RX, &head, &written));
        if (size == 0) {
            memcpy(ret_header, driver_ram(&d, RX_PLACE + head * RX_STEP), sizeof(*ret_header));
            left = le16_load(&ret_header->num_buffers) - 1u;
        }
        size += written;
        post(head);
    }
    driver_kick(&d, RX);
    return size - NET_HEADER_SIZE;
}

/* A guest that uses the NIC's MTU sends and receives frames larger than Ethernet's. */
START_TEST(large_frames)
{
    const uint64_t features = BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_CSUM) |
                              BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_MRG_RXBUF);
    static uint8_t bytes[12001], back[sizeof(bytes) + 1];
    struct server server = server_open(AF_INET, SOCK_STREAM);
    struct tcp_peer peer = { "10.0.2.2", server.port, 4000, 1000, 0 };
    struct net_header header;
    int fd;

    virtio_reset(d.device);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&d, d.device, features));
    post_all();
    fd = connect_guest(&peer, &server);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 % 251);

    send_large(&peer, bytes, sizeof(bytes));
    for (size_t got = 0; got < sizeof(bytes);) {
        ssize_t more = recv_from_guest(fd, back + got, sizeof(back) - got);

        ck_assert_int_gt(more, 0);
        got += (size_t)more;
    }
    ck_assert_mem_eq(back, bytes, sizeof(bytes));

    ck_assert_int_eq(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
    while (receive_large(&header) != ETH + 40 + sizeof(bytes))
        ck_assert_uint_eq(header.flags, VIRTIO_NET_HDR_F_DATA_VALID);
    close(fd);
    close(server.fd);
}
END_TEST

/* CVE-2026-9539: libslirp sent what lies behind its buffer, for ever. */
START_TEST(an_urgent_pointer_reads_no_heap)
{
    struct server server = server_open(AF_INET, SOCK_STREAM);
    struct tcp_peer peer = { "10.0.2.2", server.port, 4000, 1000, 0 };
    int fd = connect_guest(&peer, &server);
    char text[16] = "";

    send_tcp_urgent(&peer, TH_ACK | TH_PUSH | TH_URG, "x", 2048);
    ck_assert_int_eq(recv_from_guest(fd, text, sizeof(text)), 1);
    send_tcp(&peer, TH_ACK | TH_PUSH, "y");
    ck_assert_int_eq(recv_from_guest(fd, text + 1, sizeof(text)), 1);
    ck_assert_str_eq(text, "xy");
    ck_assert_int_lt(recv(fd, text, sizeof(text), MSG_OOB | MSG_DONTWAIT), 0);
    close(fd);
    close(server.fd);
}
END_TEST

/* The guest tells us to write the checksum in place of the destination: 127.0.0.1, not 10.0.0.1. */
START_TEST(a_checksum_does_not_change_the_destination)
{
    struct server server = server_open(AF_INET, SOCK_DGRAM);
    struct net_header header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
    struct udphdr udp = { .source = htons(4001), .dest = htons(server.port), .len = htons(10) };
    uint8_t frame[ETH + 20 + 10] = { 0 }, *ip = frame + ETH;
    char text[16];
    uint32_t sum;

    virtio_reset(d.device);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&d, d.device, BIT(VIRTIO_NET_F_CSUM)));
    post_all();
    put_ip(frame, "127.0.0.1", IPPROTO_UDP, 10, &sum);
    memcpy(ip + 16, (uint8_t[]){ 10, 0 }, 2);
    memcpy(ip + 20, &udp, sizeof(udp));
    /* The payload makes the sum from the destination on the complement of 127.0. */
    sum = 0x80ff + (uint32_t)ntohs(fold(sum_up(0, ip + 16, 14)));
    memcpy(ip + 28,
           (uint8_t[]){ (uint8_t)((sum + (sum >> 16)) >> 8), (uint8_t)(sum + (sum >> 16)) }, 2);
    le16_store(&header.csum_start, ETH + 16);
    send_frame_with(&header, frame, sizeof(frame));
    for (unsigned i = 0; i < 20; i++)
        loop_turn(d.loop, 1);
    ck_assert_int_lt(read(server.fd, text, sizeof(text)), 0);
    close(server.fd);
}
END_TEST

START_TEST(udp_reaches_the_host)
{
    struct server server = server_open(AF_INET, SOCK_DGRAM);
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    uint8_t frame[RX_STEP];
    char text[16] = "";

    send_udp("10.0.2.2", server.port, 4001, "ping", 4);
    ck_assert(wait_readable(server.fd));
    ck_assert_int_eq(recvfrom(server.fd, text, sizeof(text), 0, (void *)&from, &size), 4);
    ck_assert_int_eq(sendto(server.fd, "pong", 4, 0, (void *)&from, size), 4);
    ck_assert(receive_kind(frame, 0x0800, IPPROTO_UDP, 4001));
    ck_assert_mem_eq(frame + ETH + 28, "pong", 4);
    close(server.fd);
}
END_TEST

/* Pauses; the guest receives nothing meanwhile. */
static void pause_for_minutes(void)
{
    unsigned interrupts;

    ck_assert_int_eq(virtio_pause(d.device, clock_now_ns() + 1000000000), 0);
    ahead += 300;
    interrupts = d.interrupts;
    for (unsigned i = 0; i < 10; i++)
        loop_turn(d.loop, 10);
    ck_assert_uint_eq(d.interrupts, interrupts);
    virtio_resume(d.device);
}

/* slirp drops a UDP association after four minutes, which must not count a pause of five. */
START_TEST(a_udp_association_survives_a_pause)
{
    struct server server = server_open(AF_INET, SOCK_DGRAM);
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    uint8_t frame[RX_STEP];
    char text[16] = "";

    send_udp("10.0.2.2", server.port, 4001, "ping", 4);
    ck_assert_int_eq(recvfrom(server.fd, text, sizeof(text), 0, (void *)&from, &size), 4);
    pause_for_minutes();
    for (unsigned i = 0; i < 10; i++)
        loop_turn(d.loop, 10);
    ck_assert_int_eq(sendto(server.fd, "pong", 4, 0, (void *)&from, size), 4);
    ck_assert(receive_kind(frame, 0x0800, IPPROTO_UDP, 4001));
    ck_assert_mem_eq(frame + ETH + 28, "pong", 4);
    ck_assert(arp_answered());
    close(server.fd);
    ahead = 0; /* Check reads the clock, too */
}
END_TEST

START_TEST(a_connection_survives_pauses)
{
    struct server server = server_open(AF_INET, SOCK_STREAM);
    struct tcp_peer peer = { "10.0.2.2", server.port, 4000, 1000, 0 };
    int fd = connect_guest(&peer, &server);
    uint8_t frame[RX_STEP];
    char text[16] = "";

    for (unsigned i = 0; i < 3; i++)
        pause_for_minutes();
    send_tcp(&peer, TH_ACK | TH_PUSH, "hello");
    ck_assert_int_eq(recv_from_guest(fd, text, sizeof(text)), 5);
    ck_assert_int_eq(write(fd, "world", 5), 5);
    pause_for_minutes();
    do
        ck_assert(receive_kind(frame, 0x0800, IPPROTO_TCP, 4000));
    while (memcmp(frame + ETH + 40, "world", 5));
    close(fd);
    close(server.fd);
    ahead = 0;
}
END_TEST

/* All addresses of the host's loopback: slirp's, then those a router never forwards. */
static const char *const loopbacks[] = {
    "10.0.2.2",         "10.0.2.3",        "10.0.2.15", "10.0.2.77", "10.0.2.0",
    "10.0.2.255",       "255.255.255.255", "fec0::2",   "fec0::3",   "fec0::77",
    "fe80::2",          "fe80::3",         "ff02::1",
#define LOOPBACKS_MARTIAN 13
    "127.0.0.1",        "0.0.0.0",         "::1",       "::",        "::127.0.0.1",
    "::ffff:127.0.0.1", "::ffff:0.0.0.0",
};

START_TEST(host_loopback_is_unreachable)
{
    const char *host = loopbacks[_i];
    int family = strchr(host, ':') && !strchr(host, '.') ? AF_INET6 : AF_INET;
    struct server tcp = server_open(family, SOCK_STREAM), udp = server_open(family, SOCK_DGRAM);
    struct tcp_peer peer = { host, tcp.port, 4000, 1000, 0 };
    char text[16];

    send_tcp(&peer, TH_SYN, "");
    send_udp(host, udp.port, 4001, "ping", 4);
    ck_assert(arp_answered()); /* the frames before have been seen */
    ck_assert_int_lt(accept_for(&tcp, 0), 0);
    ck_assert_int_lt(read(udp.fd, text, sizeof(text)), 0);
    close(tcp.fd);
    close(udp.fd);
}
END_TEST

static struct slirp_forward tcp_forward, udp_forward;

/* Forwards free TCP and UDP ports to the guest's 22 and 53; retries if one is taken. */
static void open_forwards(void)
{
    const struct slirp_options options = { .forwards = &tcp_forward };
    unsigned tries = 10;
    int error;

    do {
        struct server tcp = server_open(AF_INET, SOCK_STREAM);
        struct server udp = server_open(AF_INET, SOCK_DGRAM);

        udp_forward = (struct slirp_forward){ true, htonl(INADDR_LOOPBACK), udp.port, 53, NULL };
        tcp_forward =
            (struct slirp_forward){ false, htonl(INADDR_LOOPBACK), tcp.port, 22, &udp_forward };
        close(tcp.fd);
        close(udp.fd);
        error = open_net(&options);
    } while (error && --tries > 0);
    ck_assert_int_eq(error, 0);
    announce_guest();
}

static int connect_to(int type, uint16_t port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);

    ck_assert(connect(fd, (void *)&addr, sizeof(addr)) == 0 || errno == EINPROGRESS);
    return fd;
}

START_TEST(forwarded_tcp_port)
{
    int fd = connect_to(SOCK_STREAM, tcp_forward.host_port);
    uint8_t frame[RX_STEP];

    ck_assert(receive_kind(frame, 0x0800, IPPROTO_TCP, 22));
    ck_assert_uint_eq(frame[ETH + 33], TH_SYN);
    ck_assert_mem_eq(frame + ETH + 16, ((uint8_t[]){ 10, 0, 2, 15 }), 4);
    close(fd);
}
END_TEST

START_TEST(forwarded_udp_port)
{
    int fd = connect_to(SOCK_DGRAM, udp_forward.host_port);
    uint8_t frame[RX_STEP];

    ck_assert_int_eq(write(fd, "query", 5), 5);
    ck_assert(receive_kind(frame, 0x0800, IPPROTO_UDP, 53));
    ck_assert_mem_eq(frame + ETH + 28, "query", 5);
    close(fd);
}
END_TEST

/* Those for whom there is no descriptor wait, and cost nothing, until there is one. */
START_TEST(more_clients_than_descriptors)
{
    enum { CLIENTS = 4, ACCEPTED = 1 };
    int clients[CLIENTS];
    struct rlimit limit;
    unsigned turns = 0;
    double end;

    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = connect_to(SOCK_STREAM, tcp_forward.host_port);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)clients[CLIENTS - 1] + 1 + ACCEPTED;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (end = now() + 0.5; now() < end; turns++)
        loop_turn(d.loop, 100);
    ck_assert_uint_lt(turns, 100); /* thousands, if it turned without a rest */
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        close(clients[i]);
}
END_TEST

/* Whoever may connect to a forwarded port must not be able to take the guest's network away. */
START_TEST(clients_leave_descriptors_to_the_guest)
{
    enum { FIRST_OF_THE_GUEST = 768 };
    int client = connect_to(SOCK_STREAM, tcp_forward.host_port), fd;
    uint8_t frame[RX_STEP];

    while ((fd = dup(client)) >= 0 && fd < FIRST_OF_THE_GUEST - 1)
        ;
    ck_assert_int_eq(fd, FIRST_OF_THE_GUEST - 1);
    while (receive_frame(frame, 300)) /* no connection among them */
        ck_assert_uint_ne(frame[ETH + 9], IPPROTO_TCP);
    close(fd);
    ck_assert(receive_kind(frame, 0x0800, IPPROTO_TCP, 22));
    close(client);
}
END_TEST

/* Without receive buffers a bounded number of frames is queued; the rest stays in the sender. */
START_TEST(guest_without_buffers)
{
    int fd = connect_to(SOCK_DGRAM, udp_forward.host_port);
    uint8_t frame[RX_STEP];
    uint16_t number = 0;

    while (d.used_seen[RX] + BUFFERS != d.avail_idx[RX])
        ck_assert(receive_frame(frame, TIME_LIMIT * 1000));
    for (unsigned i = 0; i < BUFFERS; i++) { /* fills what is posted */
        ck_assert_int_eq(write(fd, &(uint16_t){ 0xffff }, 2), 2);
        loop_turn(d.loop, 1);
    }
    for (uint16_t i = 0; i < 320; i++) {
        ck_assert_int_eq(write(fd, &i, sizeof(i)), sizeof(i));
        loop_turn(d.loop, 0);
    }
    while (number < 320) {
        ck_assert_msg(receive_kind(frame, 0x0800, IPPROTO_UDP, 53), "frame %u", number);
        if (!memcmp(frame + ETH + 28, &(uint16_t){ 0xffff }, 2))
            continue;
        ck_assert_mem_eq(frame + ETH + 28, &number, 2);
        number++;
    }
    close(fd);
}
END_TEST

START_TEST(a_forwarded_port_in_use_is_refused)
{
    struct server server = server_open(AF_INET, _i ? SOCK_DGRAM : SOCK_STREAM);
    struct slirp_forward forward = { _i, htonl(INADDR_LOOPBACK), server.port, 22, NULL };

    ck_assert_int_eq(open_net(&(struct slirp_options){ .forwards = &forward }),
                     in_process ? -EIO : -EADDRINUSE);
    close(server.fd);
}
END_TEST

/* Truncated frames of each length, of every Ethernet type, with each byte corrupted in turn. */
START_TEST(malformed_frames)
{
    static const uint16_t types[] = { 0x0800, 0x0806, 0x86dd, 0x88f8, 0x8100, 0, 0xffff };
    uint8_t frame[1600];
    uint32_t sum;

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
        for (size_t size = ETH; size < 100; size++) {
            memset(frame, (int)size, sizeof(frame));
            put_ip(frame, i % 2 ? "fec0::2" : "10.0.2.2", IPPROTO_TCP, size, &sum);
            put_ethernet(frame, slirp_mac, types[i]);
            send_frame(frame, size);
            frame[size] ^= 0xff;
            send_frame(frame, sizeof(frame));
            send_frame(frame, 1514);
        }
    ck_assert(arp_answered());
}
END_TEST

/* csum_start and csum_offset anywhere in the frame or behind it. */
START_TEST(checksums_anywhere)
{
    virtio_reset(d.device);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&d, d.device, BIT(VIRTIO_NET_F_CSUM)));
    post_all();
    for (uint16_t start = 0; start < 64; start++)
        for (uint16_t offset = 0; offset < 64; offset++) {
            struct net_header header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM };
            uint8_t frame[60];
            uint32_t sum;

            le16_store(&header.csum_start, start);
            le16_store(&header.csum_offset, offset);
            put_ip(frame, "10.0.2.2", IPPROTO_UDP, 26, &sum);
            send_frame_with(&header, frame, sizeof(frame));
        }
    ck_assert(arp_answered());
}
END_TEST

START_TEST(reset_with_frames_waiting)
{
    uint8_t frame[RX_STEP];
    unsigned count = 0;

    virtio_reset(d.device);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&d, d.device, 0));
    for (unsigned i = 0; i < 32000; i++)
        send_arp(2);
    post_all();
    while (receive_frame(frame, 1000)) /* what is queued in this process and on its way to it */
        count++;
    ck_assert_uint_ge(count, 1000);
    ck_assert_uint_le(count, 16000);
    ck_assert(arp_answered());
}
END_TEST

/* Its only child. */
static pid_t find_process(void)
{
    char path[64], text[32] = "";
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    fd = open(path, O_RDONLY);
    ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
    close(fd);
    return (pid_t)atoi(text);
}

/* The first word of its command line. /proc/PID/exe of a confined process is only for root. */
static void find_program(pid_t process, char program[PATH_MAX])
{
    char path[64];
    ssize_t length;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", process);
    fd = open(path, O_RDONLY);
    length = read(fd, program, PATH_MAX - 1);
    ck_assert_int_gt(length, 0);
    program[length] = '\0';
    close(fd);
}

/* Without a sandbox. So what it does then must not be for this process to write. */
START_TEST(the_process_waits_for_the_first_frame)
{
    char program[PATH_MAX];
    pid_t process;

    ck_assert_int_eq(open_net(&(struct slirp_options){ 0 }), 0);
    post_all();
    process = find_process();
    find_program(process, program);
    ck_assert_str_ne(program, "minivmm-net");
    ck_assert_int_ne(syscall(SYS_kcmp, getpid(), process, KCMP_VM, 0, 0), 0);
    ck_assert(arp_answered());
    find_program(process, program);
    ck_assert_str_eq(program, "minivmm-net");
    finish();
}
END_TEST

START_TEST(the_end_of_the_process_is_the_end_of_the_link)
{
    uint8_t config[VIRTIO_MAX_CONFIG];
    double deadline = now() + TIME_LIMIT;
    pid_t process = find_process();

    virtio_read_config(d.device, config);
    ck_assert_uint_eq(config[6], VIRTIO_NET_S_LINK_UP);
    ck_assert_int_eq(kill(process, SIGTERM), 0); /* not to look like a fault in a log */
    while (d.config_changes == 0 && now() < deadline)
        loop_turn(d.loop, 10);
    ck_assert_uint_eq(d.config_changes, 1);
    virtio_read_config(d.device, config);
    ck_assert_uint_eq(config[6], 0);

    send_arp(2);                                      /* is dropped */
    while (kill(process, 0) == 0 && now() < deadline) /* no zombie is left */
        loop_turn(d.loop, 10);
    ck_assert_int_eq(errno, ESRCH);
    ck_assert_uint_eq(d.config_changes, 1);
}
END_TEST

/* MiB that a process has had at most. */
static unsigned most_memory(pid_t pid)
{
    char path[64], status[4096] = "";
    const char *line;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, status, sizeof(status) - 1) < 0)
        return 0; /* it has ended */
    close(fd);
    line = strstr(status, "VmHWM:");
    return line ? (unsigned)atoi(line + strlen("VmHWM:")) / 1024 : 0;
}

/*
 * libslirp keeps each segment that comes out of order in a buffer of the MTU's size, 500 MB of them
 * for one connection.
 */
START_TEST(a_flood_costs_no_more_than_the_link)
{
    struct server server = server_open(AF_INET, SOCK_STREAM);
    struct tcp_peer peer = { "10.0.2.2", server.port, 4000, 1000, 0 };
    int fd = connect_guest(&peer, &server);
    pid_t process = find_process();
    unsigned before = most_memory(getpid());
    uint32_t seq = peer.seq;

    for (unsigned i = 30000; i > 0 && d.config_changes == 0; i--) {
        peer.seq = seq + 2 * i;
        send_tcp(&peer, TH_ACK, "x");
        if (CONFINE && i % 1000 == 0) /* a sanitizer leaves it without a limit */
            ck_assert_uint_lt(most_memory(process), 384);
    }
    ck_assert_uint_le(most_memory(getpid()), before + 16);
    close(fd);
    close(server.fd);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create(argc > 1 ? argv[1] : "slirp");
    TCase *plain = tcase_create("plain"), *loopback = tcase_create("loopback");
    TCase *forward = tcase_create("forward"), *start = tcase_create("start");

    in_process = argc > 1 && !strcmp(argv[1], "process");
    signal(SIGPIPE, SIG_IGN);
    tcase_add_checked_fixture(plain, open_plain, finish);
    tcase_add_test(plain, dhcp_offers_an_address);
    tcase_add_loop_test(plain, host_loopback_is_unreachable, 0, ARRAY_SIZE(loopbacks));
    tcase_add_test(plain, malformed_frames);
    tcase_add_test(plain, checksums_anywhere);
    tcase_add_test(plain, a_checksum_does_not_change_the_destination);
    tcase_add_test(plain, reset_with_frames_waiting);
    suite_add_tcase(suite, plain);

    tcase_add_checked_fixture(loopback, open_loopback, finish);
    tcase_add_test(loopback, tcp_reaches_the_host);
    tcase_add_test(loopback, an_urgent_pointer_reads_no_heap);
    tcase_add_test(loopback, udp_reaches_the_host);
    tcase_add_test(loopback, large_frames);
    if (!in_process) { /* whose clock is the real one */
        tcase_add_test(loopback, a_udp_association_survives_a_pause);
        tcase_add_test(loopback, a_connection_survives_pauses);
    } else {
        tcase_add_test(loopback, the_end_of_the_process_is_the_end_of_the_link);
        tcase_add_test(loopback, a_flood_costs_no_more_than_the_link);
    }
    tcase_add_loop_test(loopback, host_loopback_is_unreachable, LOOPBACKS_MARTIAN,
                        ARRAY_SIZE(loopbacks));
    suite_add_tcase(suite, loopback);

    tcase_add_checked_fixture(forward, open_forwards, finish);
    tcase_add_test(forward, forwarded_tcp_port);
    tcase_add_test(forward, forwarded_udp_port);
    if (!in_process) {
        tcase_add_test(forward, more_clients_than_descriptors);
        tcase_add_test(forward, clients_leave_descriptors_to_the_guest);
        /* The kernel drops datagrams if the other process is slow. */
        tcase_add_test(forward, guest_without_buffers);
    }
    suite_add_tcase(suite, forward);

    tcase_add_loop_test(start, a_forwarded_port_in_use_is_refused, 0, 2);
    if (in_process)
        tcase_add_test(start, the_process_waits_for_the_first_frame);
    suite_add_tcase(suite, start);
    return unit_run(suite);
}
