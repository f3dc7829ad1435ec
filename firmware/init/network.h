/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_NETWORK_H
#define FIRMWARE_INIT_NETWORK_H

#include <stdbool.h>

struct message_sink;

/* Brings up the loopback interface, and with `user` the first NIC in the user-mode network. */
void network_start(const struct message_sink *sink, bool user);

#endif
