/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_NETWORK_H
#define FIRMWARE_INIT_NETWORK_H

#include <stdbool.h>

struct voice;

/* The loopback interface, and with `user` the first card as a host in the user-mode network. */
void network_start(const struct voice *voice, bool user);

#endif
