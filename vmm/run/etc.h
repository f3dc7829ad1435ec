/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_ETC_H
#define VMM_RUN_ETC_H

#include <stdbool.h>

/* Contents of files in /etc that must fit the guest, made from those of the root and the host. */

struct etc {
    char *hosts;    /* /etc/hosts: the root's, and the guest's own name */
    char *hostname; /* /etc/hostname */
    char *resolver; /* /etc/resolv.conf */
    bool ipv6;      /* its name server has an IPv6 address */
};

/* How the guest reaches name servers. */
enum etc_network {
    ETC_NO_NETWORK,
    ETC_USER_NETWORK,  /* through the user-mode network's own name server */
    ETC_OTHER_NETWORK, /* as the root's file says */
};

/*
 * `root` is the guest's root directory. The user-mode network asks the name servers of the file
 * `host_resolver`, usually /etc/resolv.conf. NULL in `ret`: the root's file fits, or there is none.
 * Prints errors; -errno. The caller calls etc_finish(), whatever the result.
 */
int etc_make(struct etc *ret, const char *root, const char *hostname, const char *host_resolver,
             enum etc_network network);
void etc_finish(struct etc *etc);

#endif
