/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_SLIRP_H
#define DEVICES_NET_SLIRP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct net;

/* A port of the host that is forwarded to the guest. */
struct slirp_forward {
    bool udp;
    uint32_t host_addr; /* network byte order */
    uint16_t host_port, guest_port;
    struct slirp_forward *next;
};

struct slirp_options {
    bool host_loopback; /* the guest reaches the host's 127.0.0.1 by the gateway's address */
    struct slirp_forward *forwards;
};

/*
 * libslirp as a NIC's back-end. For minivmm-net: minivmm is not linked with it. Opens the forwarded
 * ports. Becomes the loop's poller. On failure prints why and returns -errno.
 */
int slirp_open(struct net **ret, const struct slirp_options *options, struct loop *loop);

#endif
