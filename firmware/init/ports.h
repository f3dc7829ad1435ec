/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_PORTS_H
#define FIRMWARE_INIT_PORTS_H

struct voice;

/* Ends the machine, and says why, if the kernel lacks what ports need. */
void ports_check(const struct voice *voice);

/*
 * The console's port with that name, or the terminal /dev/NAME, as soon as the host has announced
 * it; `flags` as for open(2). Ends the machine if that does not happen.
 */
int ports_open(const struct voice *voice, const char *name, int flags);
int ports_open_terminal(const struct voice *voice, const char *name);

#endif
