/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONTROL_SOCKET_H
#define VMM_CONTROL_SOCKET_H

#include <stdbool.h>

/*
 * The path of a control socket: whoever may write to it commands the machine, so it is its owner's
 * alone (0600). One that a killed machine left is replaced, one that is served is not.
 *
 * A process of a few pages waits until this process has ended, however that happens, and removes
 * the path: this one gives up its files before a guest runs. Before the first thread, and before
 * there is memory to share. A listening descriptor. Prints; -errno.
 */
int control_listen(const char *path);

/* Connects to such a socket. Prints; -errno. */
int control_connect(const char *path);

#endif
