/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONTROL_CLIENT_H
#define VMM_CONTROL_CLIENT_H

#include <stddef.h>

/* The client's side of a control socket. Waits for the machine. */

#define CONTROL_ANSWER_SIZE 65536

/*
 * Sends a request, with `count` descriptors, on a connected socket, and receives the answer's body
 * as a text. `body` NULL: none. Prints what the machine refuses; -errno. It waits no longer, and
 * returns -EINTR, once there is something to read from the client's `cancel`.
 */
struct control_client {
    int socket, cancel;
};

int control_ask(const struct control_client *client, const char *method, const char *target,
                const char *body, const int *fds, unsigned count, char answer[CONTROL_ANSWER_SIZE]);

#endif
