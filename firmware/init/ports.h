/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_PORTS_H
#define FIRMWARE_INIT_PORTS_H

struct message_sink;

/* Fails with a message if the kernel lacks the drivers for virtio-console ports. */
void ports_check(const struct message_sink *sink);

/*
 * Opens the virtio-console port with that name, or the terminal /dev/NAME; waits until it appears.
 * `flags` as for open(2). Returns a descriptor; fails with a message after a time limit.
 */
int ports_open(const struct message_sink *sink, const char *name, int flags);
int ports_open_terminal(const struct message_sink *sink, const char *name);

#endif
