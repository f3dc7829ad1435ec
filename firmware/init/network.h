/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_NETWORK_H
#define FIRMWARE_INIT_NETWORK_H

#include <stdbool.h>

struct message_sink;

/*
 * Brings up the loopback interface, and `name` (may be NULL) in the user-mode network, with `ipv6`
 * both of its addresses. Lets all users send pings.
 */
void network_start(const struct message_sink *sink, const char *name, bool ipv6);

#endif
