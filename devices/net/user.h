/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_USER_H
#define DEVICES_NET_USER_H

#include <stdbool.h>

#include "devices/net/slirp.h"

struct loop;
struct net;

/*
 * The user-mode network: libslirp in a process of its own, minivmm-net (vmm/user_net/), which has
 * neither the guest's memory nor files, and may crash. A pair of AF_UNIX sockets connects them.
 * Each packet on it (SOCK_SEQPACKET) is a frame behind its struct net_header, except:
 *
 * - the first of minivmm-net: USER_READY, or the text of why there is no network;
 * - of minivmm, one byte: USER_PAUSE, USER_RESUME.
 *
 * A packet shorter than a header that is none of these is ignored. Either side ends the connection
 * by closing its socket.
 */
#define USER_READY    "ready"
#define USER_PAUSE    'p'
#define USER_RESUME   'r'
#define USER_TEXT_MAX 256 /* bytes of the first packet */

#define USER_MTU      16384
#define USER_OFFLOADS (BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM))

struct user_options {
    struct slirp_options network;
    int fd;        /* the socket to a minivmm-net that somebody else has started; -1: none */
    bool optional; /* not asked for: the machine runs without a network, too */
};

/*
 * Forks the process that becomes minivmm-net, which is beside this program, with the guest's first
 * frame, or at once if ports are forwarded. Or takes ownership of the socket options->fd. Early,
 * while this process is small and has nothing open that is not for the other. Does not wait for it.
 * Prints why not and returns -errno; options->fd is then still the caller's.
 */
int user_start(struct net **ret, const struct user_options *options);

void user_attach(struct net *net, struct loop *loop); /* from now on `net` runs on the loop */

/*
 * Waits until the network is ready if that can be known before the guest runs: with forwarded ports
 * or options->fd, unless it is optional. Prints why it will not be and returns -errno. Any thread.
 */
int user_wait(struct net *net);

#endif
