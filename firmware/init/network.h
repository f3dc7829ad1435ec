/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_NETWORK_H
#define FIRMWARE_INIT_NETWORK_H

struct message_sink;

/* Brings up the loopback interface, and `name` (may be NULL) in the user-mode network. */
void network_start(const struct message_sink *sink, const char *name);

#endif
