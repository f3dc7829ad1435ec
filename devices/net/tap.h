/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_TAP_H
#define DEVICES_NET_TAP_H

struct loop;
struct net;

/* Which tap: an interface's name, or an open descriptor. */
struct tap_options {
    const char *interface; /* NULL: by descriptor */
    int fd;                /* -1: by name */
};

/*
 * Opens options->interface, which must exist, or takes over the tap descriptor options->fd, which
 * becomes non-blocking, for whoever shares it too. -errno, with one line printed.
 */
int tap_open(struct net **ret, const struct tap_options *options, struct loop *loop);

/* The descriptor behind a net of tap_open(), which closes it. */
int tap_fd(struct net *net);

#endif
