/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_TAP_H
#define DEVICES_NET_TAP_H

struct loop;
struct net;

/* A tap is given by the name of its interface, or by an open descriptor. */
struct tap_options {
    const char *interface; /* NULL: by descriptor */
    int fd;                /* -1: by name */
};

/*
 * Opens options->interface, which must exist, or takes ownership of the tap descriptor options->fd.
 * That becomes non-blocking, also for other processes that share it. On failure prints why and
 * returns -errno; options->fd is then still the caller's.
 */
int tap_open(struct net **ret, const struct tap_options *options, struct loop *loop);

/* The descriptor behind a net of tap_open(), still owned by the net. */
int tap_fd(struct net *net);

#endif
