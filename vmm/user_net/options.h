/* SPDX-License-Identifier: MIT */
#ifndef VMM_USER_NET_OPTIONS_H
#define VMM_USER_NET_OPTIONS_H

#include "devices/net/slirp.h"
#include "vmm/core/arena.h"
#include "vmm/core/log.h"

/* The command line of minivmm-net. */
struct network_options {
    int socket;
    int messages; /* a descriptor that replaces standard error; -1: none */
    enum log_level log_level;
    struct slirp_options network;
    struct arena arena; /* memory of the forwards */
};

/* Prints; -errno. 1 after --help or --version. */
int network_options_read(struct network_options *ret, int argc, char **argv);

#endif
