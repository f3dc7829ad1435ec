/* SPDX-License-Identifier: MIT */
#include "devices/net/frame_filter.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

/* A network namespace of the test's own has the addresses that are the host's here. */
#define HOST4 "192.168.77.1"
#define LATER "192.168.78.1"
#define HOST6 "fd00:77::1"

static struct frame_filter filter;
static uint8_t frame[ETH_HLEN + 100];

static void open_filter(void)
{
    ck_assert_int_eq(frame_filter_open(&filter, false), 0);
}

static void close_filter(void)
{
    frame_filter_close(&filter);
}

/* Makes a frame; returns its size. The payload is zeros, and so port 0, and its flags. */
static size_t make(const char *to, uint8_t protocol)
{
    struct iphdr ip4 = { .version = 4, .ihl = 5, .protocol = protocol };
    struct ip6_hdr ip6 = { .ip6_nxt = protocol };
    bool v6 = inet_pton(AF_INET6, to, &ip6.ip6_dst) == 1;

    ip6.ip6_vfc = 0x60;
    memset(frame, 0, sizeof(frame));
    memcpy(frame + 12, v6 ? "\x86\xdd" : "\x08\x00", 2);
    if (v6)
        memcpy(frame + ETH_HLEN, &ip6, sizeof(ip6));
    else if (inet_pton(AF_INET, to, &ip4.daddr) == 1)
        memcpy(frame + ETH_HLEN, &ip4, sizeof(ip4));
    else
        ck_abort_msg("%s", to);
    return sizeof(frame);
}

static uint8_t *payload(void)
{
    return frame + ETH_HLEN + (frame[12] == 8 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr));
}

/* Would a connection be opened, a datagram be sent? */
static bool reaches(const char *to, uint8_t protocol)
{
    size_t size = make(to, protocol);

    if (protocol == IPPROTO_TCP)
        payload()[13] = TH_SYN;
    return frame_filter_passes(&filter, frame, size);
}

static bool reaches_icmpv6(const char *to, uint8_t type)
{
    size_t size = make(to, IPPROTO_ICMPV6);

    payload()[0] = type;
    return frame_filter_passes(&filter, frame, size);
}

static const struct {
    const char *to;
    bool passes;
} destinations[] = {
    { "10.0.2.2", true }, /* libslirp itself, also where this host is in such a network */
    { "10.0.2.3", true },
    { "10.0.2.15", false }, /* libslirp would connect to this host then */
    { "10.0.2.77", false },
    { "10.0.2.255", false },
    { "10.0.3.15", true },
    { "255.255.255.255", true }, /* DHCP: libslirp answers it */
    { "192.0.2.1", true },
    { "169.253.255.255", true },
    { "169.255.0.0", true },
    { "223.255.255.255", true },
    { "fec0::2", true },
    { "fec0::3", true },
    { "fec0::15", false },
    { "fec0::1:0:0:1", false },
    { "fec0:0:0:1::1", true },
    { "2001:db8::1", true },
    { "fd00:ec1::254", true },
    { "127.0.0.1", false },
    { "127.255.255.255", false },
    { "0.0.0.0", false },
    { "0.1.2.3", false },
    { "169.254.169.254", false },
    { "169.254.170.2", false },
    { "169.254.0.0", false },
    { "192.0.0.192", false },
    { "100.100.100.200", false },
    { "168.63.129.16", false },
    { "224.0.0.251", false },
    { "239.255.255.250", false },
    { "::", false },
    { "::1", false },
    { "::127.0.0.1", false },
    { "::ffff:127.0.0.1", false },
    { "::ffff:169.254.169.254", false },
    { "fe80::a9fe:a9fe", false },
    { "febf::1", false },
    { "fd00:ec2::254", false },
    { "fd20:ce::254", false },
    { "fd00:c1::a9fe:a9fe", false },
    { "fd00:100::100:200", false },
    { "fd00:a9fe:a9fe::1", false },
    { "fd00:42::42", false },
    { "64:ff9b::192.0.2.1", true },
    { "64:ff9b::169.254.169.254", false },
    { "64:ff9b::100.100.100.200", false },
    { "ff02::fb", false },
    { "ff05::c", false },
    { HOST4, false },
    { HOST6, false },
    { "192.168.77.9", false }, /* Linux gives the loopback interface whole networks */
};

START_TEST(destination)
{
    static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP };
    bool v6 = strchr(destinations[_i].to, ':');

    for (unsigned i = 0; i < ARRAY_SIZE(protocols) - v6; i++)
        ck_assert_int_eq(reaches(destinations[_i].to, protocols[i]), destinations[_i].passes);
}
END_TEST

/* Neighbour discovery, router solicitation and DHCPv6 are libslirp's own; pings are not. */
START_TEST(link_local_is_for_libslirp)
{
    static const char *const others[] = { "fe80::9", "ff02::1", "ff05::2" };
    size_t size;

    ck_assert(reaches_icmpv6("fe80::2", 128));
    ck_assert(reaches_icmpv6("fe80::3", 128));
    ck_assert(reaches_icmpv6("fe80::2", 136));
    ck_assert(reaches_icmpv6("ff02::2", 133));
    ck_assert(reaches_icmpv6("ff02::1:ff00:2", 135));
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
        ck_assert(!reaches_icmpv6(others[i], 128));
    ck_assert(!reaches("ff02::1:2", IPPROTO_UDP));
    size = make("ff02::1:2", IPPROTO_UDP);
    memcpy(payload() + 2, (uint8_t[]){ 547 >> 8, 547 & 0xff }, 2);
    ck_assert(frame_filter_passes(&filter, frame, size));
}
END_TEST

/* A program of the host may use a port that is forwarded, by any of the host's addresses. */
START_TEST(the_guest_answers_its_host)
{
    static const uint8_t flags[] = { TH_SYN, TH_SYN | TH_ACK, TH_ACK, TH_ACK | TH_FIN, TH_RST };

    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        size_t size = make(_i ? HOST6 : HOST4, IPPROTO_TCP);

        payload()[13] = flags[i];
        ck_assert_int_eq(frame_filter_passes(&filter, frame, size), flags[i] != TH_SYN);
    }
}
END_TEST

/* `name` is lo or an alias such as lo:1. */
static bool add_address(const char *name, const char *addr)
{
    struct ifreq request = { .ifr_flags = IFF_UP | IFF_RUNNING };
    struct sockaddr_in in = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bool done;

    strcpy(request.ifr_name, "lo");
    done = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    strcpy(request.ifr_name, name);
    inet_pton(AF_INET, addr, &in.sin_addr);
    memcpy(&request.ifr_addr, &in, sizeof(in));
    done = done && ioctl(fd, SIOCSIFADDR, &request) == 0;
    inet_pton(AF_INET, "255.255.255.0", &in.sin_addr);
    memcpy(&request.ifr_netmask, &in, sizeof(in));
    done = done && ioctl(fd, SIOCSIFNETMASK, &request) == 0;
    close(fd);
    return done;
}

static bool add_address6(const char *addr)
{
    struct {
        struct in6_addr addr;
        uint32_t prefix;
        int index;
    } request = { .prefix = 128, .index = 1 };
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    bool done;

    inet_pton(AF_INET6, addr, &request.addr);
    done = ioctl(fd, SIOCSIFADDR, &request) == 0;
    close(fd);
    return done;
}

/* The verdict of the address asked for last is kept for a second. */
START_TEST(an_address_that_the_host_gets_later)
{
    ck_assert(reaches(LATER, IPPROTO_TCP));
    ck_assert(add_address("lo:2", LATER));
    filter.expires_ns = 0;
    ck_assert(!reaches(LATER, IPPROTO_TCP));
    ck_assert(!reaches(LATER, IPPROTO_TCP));
    ck_assert(reaches("10.0.2.2", IPPROTO_TCP));
}
END_TEST

/* An IPv6 address that begins with the bytes of the host's IPv4 address is no verdict on that. */
START_TEST(families_are_told_apart)
{
    char begins_with[INET6_ADDRSTRLEN];
    struct in6_addr addr = { 0 };

    inet_pton(AF_INET, HOST4, &addr);
    inet_ntop(AF_INET6, &addr, begins_with, sizeof(begins_with));
    ck_assert(reaches(begins_with, IPPROTO_UDP));
    ck_assert(!reaches(HOST4, IPPROTO_TCP));
    ck_assert(reaches(begins_with, IPPROTO_UDP));
}
END_TEST

START_TEST(host_loopback_allows_own_addresses_only)
{
    frame_filter_close(&filter);
    ck_assert_int_eq(frame_filter_open(&filter, true), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(destinations); i++)
        ck_assert_int_eq(reaches(destinations[i].to, IPPROTO_UDP),
                         destinations[i].passes ||
                             !strncmp(destinations[i].to, "192.168.77.", 11) ||
                             !strcmp(destinations[i].to, HOST6));
}
END_TEST

START_TEST(no_fragments)
{
    size_t size = make("10.0.2.2", IPPROTO_UDP);
    uint8_t *offset = frame + ETH_HLEN + 6;

    for (unsigned bit = 0; bit < 16; bit++) {
        offset[0] = (uint8_t)(0x8000 >> bit >> 8);
        offset[1] = (uint8_t)(0x8000 >> bit);
        ck_assert_int_eq(frame_filter_passes(&filter, frame, size), bit < 2); /* unused; DF */
    }
    ck_assert(!reaches("fec0::2", IPPROTO_FRAGMENT));
    ck_assert(!reaches("fec0::2", IPPROTO_HOPOPTS));
    ck_assert(!reaches("fec0::2", IPPROTO_ROUTING));
}
END_TEST

static uint16_t sum(const uint8_t *bytes, size_t size)
{
    uint32_t total = 0;

    for (size_t i = 0; i < size; i += 2)
        total += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)total;
}

/* Whatever the segment and its checksum, right or wrong: the sum of all stays what it was. */
START_TEST(urgent_data_becomes_ordinary)
{
    const char *to = _i % 2 ? "fec0::2" : "10.0.2.2";
    size_t size = make(to, IPPROTO_TCP);
    uint8_t *tcp = payload();
    uint16_t before;

    srandom((unsigned)_i);
    for (unsigned i = 0; i < 20; i++)
        tcp[i] = (uint8_t)random();
    tcp[13] = (uint8_t)((tcp[13] & ~TH_SYN) | (_i & 2 ? TH_URG : 0));
    if (_i & 4)
        memset(tcp + 18, 0, 2);
    before = sum(tcp, 20);
    ck_assert(frame_filter_passes(&filter, frame, size));
    ck_assert_uint_eq(tcp[13] & TH_URG, 0);
    ck_assert_uint_eq(tcp[18] | tcp[19], 0);
    ck_assert_uint_eq(sum(tcp, 20) % 0xffff, before % 0xffff);
}
END_TEST

/* No length reads beyond the frame: a copy on the heap, for AddressSanitizer. */
START_TEST(frames_of_all_lengths)
{
    static const char *const to[] = { "10.0.2.2", "fec0::2", "ff02::1:2" };
    static const uint8_t protocols[] = { IPPROTO_TCP, IPPROTO_UDP };

    for (unsigned i = 0; i < ARRAY_SIZE(to) * ARRAY_SIZE(protocols); i++)
        for (uint8_t ihl = 0; ihl < 16; ihl++)
            for (size_t size = 0; size <= sizeof(frame); size++) {
                uint8_t *copy = malloc(size ? size : 1);

                make(to[i / 2], protocols[i % 2]);
                frame[ETH_HLEN] = (uint8_t)((frame[ETH_HLEN] & 0xf0) | ihl);
                memcpy(copy, frame, size);
                if (frame_filter_passes(&filter, copy, size))
                    ck_assert_uint_ge(size, ETH_HLEN + 20);
                free(copy);
            }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame_filter");
    TCase *tests = tcase_create("filter");

    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return unit_skip_all("this user may not create a network namespace");
    if (!add_address("lo:1", HOST4) || !add_address6(HOST6) || !add_address("lo:3", "10.0.2.15"))
        return unit_skip_all("this host gives no address to the loopback interface");

    tcase_add_checked_fixture(tests, open_filter, close_filter);
    tcase_add_loop_test(tests, destination, 0, ARRAY_SIZE(destinations));
    tcase_add_test(tests, link_local_is_for_libslirp);
    tcase_add_loop_test(tests, the_guest_answers_its_host, 0, 2);
    tcase_add_test(tests, an_address_that_the_host_gets_later);
    tcase_add_test(tests, families_are_told_apart);
    tcase_add_test(tests, host_loopback_allows_own_addresses_only);
    tcase_add_test(tests, no_fragments);
    tcase_add_loop_test(tests, urgent_data_becomes_ordinary, 0, 64);
    tcase_add_test(tests, frames_of_all_lengths);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
