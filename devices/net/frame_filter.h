/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_FRAME_FILTER_H
#define DEVICES_NET_FRAME_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Which frames of the guest reach libslirp: ARP and IP to where a router would forward them, in the
 * plain form that TCP/IP stacks send. libslirp has a socket of the host for every destination, so
 * without this a guest reaches what only the host itself should: its loopback, its other addresses,
 * the servers that tell a cloud's machines their credentials.
 */
struct frame_filter {
    int routes;       /* a netlink socket; -1: the host's own addresses are allowed */
    uint8_t last[16]; /* asked for last, if `expires_ns` is in the future; IPv4: ::ffff:a.b.c.d */
    bool last_is_host;
    uint64_t expires_ns;
};

/* `host_loopback`: allows the host's own addresses, except loopback. Prints; -errno. */
int frame_filter_open(struct frame_filter *ret, bool host_loopback);
void frame_filter_close(struct frame_filter *filter);

/*
 * Checks a frame whose checksums are complete: false: drop it. Clears what libslirp must not see of
 * a good one, and corrects its checksum.
 */
bool frame_filter_passes(struct frame_filter *filter, uint8_t *frame, size_t size);

#endif
