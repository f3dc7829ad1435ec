/* SPDX-License-Identifier: MIT */
#ifndef VMM_USER_NET_RELAY_H
#define VMM_USER_NET_RELAY_H

#include <stdbool.h>

/*
 * Carries frames between minivmm's socket and the network, as devices/net/user.h describes. minivmm
 * is not trusted: every packet is checked.
 */
struct loop;
struct net;
struct relay;

/*
 * Takes ownership of neither. `ended` is called when minivmm has closed its end. NULL: out of
 * memory; printed.
 */
struct relay *relay_create(struct net *net, int socket, struct loop *loop,
                           void (*ended)(void *owner), void *owner);
void relay_destroy(struct relay *relay); /* accepts NULL */

#endif
