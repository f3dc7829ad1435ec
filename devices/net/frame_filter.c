/* SPDX-License-Identifier: MIT */
#include "devices/net/frame_filter.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "firmware/init/user_network.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"

#define IP4_HEADER  20
#define IP6_HEADER  40
#define TCP_HEADER  20
#define TCP_SYN     0x02
#define TCP_ACK     0x10
#define TCP_URG     0x20
#define ICMPV6_ECHO 128
#define PORT_DHCPV6 547 /* libslirp answers it itself */
#define CACHE_NS    1000000000u

struct frame_prefix {
    unsigned bits;
    uint8_t bytes[16];
};

#define ADDR4(addr)                                                        \
    {                                                                      \
        (addr) >> 24, (addr) >> 16 & 0xff, (addr) >> 8 & 0xff, (addr)&0xff \
    }

/* What a router does not forward, and where clouds tell a machine its secrets. */
static const struct frame_prefix frame_closed4[] = {
    { 8, { 0 } },                   /* this host (RFC 791): Linux takes it for loopback */
    { 8, { 127 } },                 /* loopback */
    { 16, { 169, 254 } },           /* link-local (RFC 3927); metadata of nearly all clouds */
    { 24, { 192, 0, 0 } },          /* protocol assignments (RFC 6890); metadata of Oracle's */
    { 32, { 100, 100, 100, 200 } }, /* metadata of Alibaba's */
    { 32, { 168, 63, 129, 16 } },   /* metadata of Azure's */
    { 4, { 224 } },                 /* multicast: the host itself may listen, and its neighbours */
    { 24, ADDR4(USER_NETWORK) },    /* the guest's own: nobody else is there */
};

static const struct frame_prefix frame_closed6[] = {
    { 96, { 0 } },                                                      /* ::, ::1, ::a.b.c.d */
    { 96, { [10] = 0xff, [11] = 0xff } },                               /* ::ffff:a.b.c.d */
    { 32, { 0xfd, 0x00, 0x0e, 0xc2 } },                                 /* metadata of Amazon's */
    { 128, { 0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54 } },      /* metadata of Google's */
    { 128, { 0xfd, 0x00, 0x00, 0xc1, [12] = 0xa9, 0xfe, 0xa9, 0xfe } }, /* Oracle's */
    { 128, { 0xfd, 0x00, 0x01, 0x00, [12] = 0x01, 0x00, 0x02 } },       /* Alibaba's */
    { 128, { 0xfd, 0x00, 0xa9, 0xfe, 0xa9, 0xfe, [15] = 0x01 } },       /* Akamai's */
    { 128, { 0xfd, 0x00, 0x00, 0x42, [15] = 0x42 } },                   /* Scaleway's */
    { 64, { USER_NETWORK6 } },                                          /* the guest's own */
};

/* A translator of the host's network sends these to a.b.c.d (RFC 6052). */
static const struct frame_prefix frame_translated = { 96, { 0x00, 0x64, 0xff, 0x9b } };

/* Only libslirp itself is asked there, by neighbour discovery and DHCPv6. */
static const struct frame_prefix frame_local6[] = {
    { 10, { 0xfe, 0x80 } }, /* link-local */
    { 8, { 0xff } },        /* multicast */
};

/*
 * Addresses at which libslirp answers, and opens no socket to the host's network, which may have
 * them, too: it does so for all others, even if they are of the guest's own network.
 */
static const struct frame_prefix frame_own4[] = {
    { 32, ADDR4(USER_NETWORK_GATEWAY) },
    { 32, ADDR4(USER_NETWORK_NAMESERVER) },
    { 32, { 255, 255, 255, 255 } }, /* its DHCP server; the host's sockets refuse to broadcast */
};
static const struct frame_prefix frame_own6[] = {
    { 128, { USER_NETWORK6_GATEWAY } },
    { 128, { USER_NETWORK6_NAMESERVER } },
    { 128, { 0xfe, 0x80, [15] = 0x02 } }, /* both once more, link-local */
    { 128, { 0xfe, 0x80, [15] = 0x03 } },
};

static bool frame_prefix_has(const struct frame_prefix *prefix, const uint8_t *addr)
{
    unsigned bytes = prefix->bits / 8, rest = prefix->bits % 8;

    return !memcmp(prefix->bytes, addr, bytes) &&
           (rest == 0 || (prefix->bytes[bytes] ^ addr[bytes]) >> (8 - rest) == 0);
}

static bool frame_is_in(const struct frame_prefix *prefixes, unsigned count, const uint8_t *addr)
{
    for (unsigned i = 0; i < count; i++)
        if (frame_prefix_has(&prefixes[i], addr))
            return true;
    return false;
}

static bool frame_is_own(const uint8_t *addr, uint8_t family)
{
    return family == AF_INET ? frame_is_in(frame_own4, ARRAY_SIZE(frame_own4), addr)
                             : frame_is_in(frame_own6, ARRAY_SIZE(frame_own6), addr);
}

static bool frame_is_closed4(const uint8_t *addr)
{
    return frame_is_in(frame_closed4, ARRAY_SIZE(frame_closed4), addr) &&
           !frame_is_own(addr, AF_INET);
}

static bool frame_is_closed6(const uint8_t *addr)
{
    if (frame_prefix_has(&frame_translated, addr))
        return frame_is_closed4(addr + 12);
    return frame_is_in(frame_closed6, ARRAY_SIZE(frame_closed6), addr) &&
           !frame_is_own(addr, AF_INET6);
}

/*
 * Asks the kernel for the route to an address, which it answers before send() returns. Addresses
 * come and go; so there is no list of them. True if a packet would go to this host, or to all.
 */
static bool frame_ask_route(int routes, const uint8_t *addr, uint8_t family, uint8_t size)
{
    struct {
        struct nlmsghdr header;
        struct rtmsg route;
        struct rtattr attribute;
        uint8_t addr[16];
    } request = {
        .header = { .nlmsg_len = offsetof(__typeof__(request), addr) + size,
                    .nlmsg_type = RTM_GETROUTE,
                    .nlmsg_flags = NLM_F_REQUEST },
        .route = { .rtm_family = family, .rtm_dst_len = (uint8_t)(size * 8) },
        .attribute = { .rta_len = (uint16_t)RTA_LENGTH(size), .rta_type = RTA_DST },
    };
    union {
        struct {
            struct nlmsghdr header;
            struct rtmsg route;
        };
        uint8_t bytes[4096];
    } answer;
    ssize_t length;

    memcpy(request.addr, addr, size);
    if (send(routes, &request, request.header.nlmsg_len, 0) < 0)
        return true;
    length = recv(routes, &answer, sizeof(answer), MSG_DONTWAIT);
    if (length < (ssize_t)sizeof(answer.header))
        return true;
    if (answer.header.nlmsg_type == NLMSG_ERROR)
        return false; /* there is no route: libslirp tells the guest */
    return answer.header.nlmsg_type != RTM_NEWROUTE ||
           length < (ssize_t)(sizeof(answer.header) + sizeof(answer.route)) ||
           answer.route.rtm_type != RTN_UNICAST;
}

static bool frame_is_host(struct frame_filter *filter, const uint8_t *addr, uint8_t family)
{
    uint8_t size = family == AF_INET ? 4 : 16;
    uint8_t key[16] = { [10] = 0xff, [11] = 0xff }; /* ::ffff:a.b.c.d: no other is of both */
    uint64_t now = clock_now_ns();

    if (filter->routes < 0 || frame_is_own(addr, family))
        return false;
    memcpy(key + sizeof(key) - size, addr, size);
    if (now < filter->expires_ns && !memcmp(key, filter->last, sizeof(key)))
        return filter->last_is_host;

    memcpy(filter->last, key, sizeof(key));
    filter->last_is_host = frame_ask_route(filter->routes, addr, family, size);
    filter->expires_ns = now + CACHE_NS;
    return filter->last_is_host;
}

static uint16_t frame_load16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void frame_store16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/* Changes a word that a checksum covers (RFC 1624). */
static void frame_replace16(uint8_t *word, uint16_t value, uint8_t *checksum)
{
    uint32_t sum = (uint16_t)~frame_load16(checksum);

    sum += (uint16_t)~frame_load16(word);
    sum += value;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    frame_store16(word, value);
    frame_store16(checksum, (uint16_t)~sum);
}

/*
 * Urgent data becomes ordinary data: before 4.9.2 libslirp reads beyond its buffer for an urgent
 * pointer beyond the segment (CVE-2026-9539), and a stream is what programs expect anyway.
 */
static void frame_clear_urgent(uint8_t *tcp)
{
    uint8_t *flags = tcp + 12, *checksum = tcp + 16, *urgent = tcp + 18;

    if (flags[1] & TCP_URG)
        frame_replace16(flags, frame_load16(flags) & (uint16_t)~TCP_URG, checksum);
    if (frame_load16(urgent))
        frame_replace16(urgent, 0, checksum);
}

/*
 * `payload` is what follows the IP header. Only a TCP segment with SYN and no ACK opens a
 * connection; with both it answers one to a forwarded port, which the host itself may have opened.
 */
static bool frame_payload_passes(struct frame_filter *filter, const uint8_t *addr, uint8_t family,
                                 uint8_t protocol, uint8_t *payload, size_t size)
{
    if (protocol != IPPROTO_TCP)
        return !frame_is_host(filter, addr, family);
    if (size < TCP_HEADER)
        return false;
    frame_clear_urgent(payload);
    return (payload[13] & (TCP_SYN | TCP_ACK)) != TCP_SYN || !frame_is_host(filter, addr, family);
}

/*
 * No fragments: libslirp keeps those of datagrams that never become whole, without a bound. Its MTU
 * holds all that a guest has to send in one.
 */
static bool frame_ip4_passes(struct frame_filter *filter, uint8_t *ip, size_t size)
{
    size_t header = size < IP4_HEADER ? 0 : (ip[0] & 15) * 4u;
    const uint8_t *addr = ip + 16;

    if (header < IP4_HEADER || header > size || frame_load16(ip + 6) & 0x3fff /* MF, offset */ ||
        frame_is_closed4(addr))
        return false;
    return frame_payload_passes(filter, addr, AF_INET, ip[9], ip + header, size - header);
}

/* `payload` is of a datagram to frame_local6. libslirp 4.8 and later sends pings to any address. */
static bool frame_is_for_slirp(const uint8_t *addr, uint8_t protocol, const uint8_t *payload,
                               size_t size)
{
    if (protocol == IPPROTO_ICMPV6)
        return size > 0 && (payload[0] != ICMPV6_ECHO || frame_is_own(addr, AF_INET6));
    return protocol == IPPROTO_UDP && size >= 4 && frame_load16(payload + 2) == PORT_DHCPV6;
}

/* libslirp knows no extension headers, so no fragments either. */
static bool frame_ip6_passes(struct frame_filter *filter, uint8_t *ip, size_t size)
{
    const uint8_t *addr = ip + 24;
    uint8_t *payload = ip + IP6_HEADER;

    if (size < IP6_HEADER || frame_is_closed6(addr))
        return false;
    if (ip[6] != IPPROTO_TCP && ip[6] != IPPROTO_UDP && ip[6] != IPPROTO_ICMPV6)
        return false;
    if (frame_is_in(frame_local6, ARRAY_SIZE(frame_local6), addr))
        return frame_is_for_slirp(addr, ip[6], payload, size - IP6_HEADER);
    return frame_payload_passes(filter, addr, AF_INET6, ip[6], payload, size - IP6_HEADER);
}

bool frame_filter_passes(struct frame_filter *filter, uint8_t *frame, size_t size)
{
    if (size < ETH_HLEN)
        return false;
    switch (frame_load16(frame + 12)) {
    case ETH_P_ARP:
        return true;
    case ETH_P_IP:
        return frame_ip4_passes(filter, frame + ETH_HLEN, size - ETH_HLEN);
    case ETH_P_IPV6:
        return frame_ip6_passes(filter, frame + ETH_HLEN, size - ETH_HLEN);
    default:
        return false;
    }
}

int frame_filter_open(struct frame_filter *ret, bool host_loopback)
{
    *ret = (struct frame_filter){ .routes = -1 };
    if (host_loopback)
        return 0;
    ret->routes = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (ret->routes < 0)
        return log_error(errno, "no user-mode network: it cannot ask which addresses are the "
                                "host's own (host-loopback allows them all)");
    return 0;
}

void frame_filter_close(struct frame_filter *filter)
{
    if (filter->routes >= 0)
        close(filter->routes);
    filter->routes = -1;
}
