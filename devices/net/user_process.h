/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_NET_USER_PROCESS_H
#define DEVICES_NET_USER_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

struct slirp_options;
struct user_launch;

/* A minivmm-net that this process has started. */
struct user_process {
    pid_t pid; /* 0: none, or it has ended */
    int pidfd; /* readable when it has ended; -1: none */
    struct user_launch *launch;
};

/*
 * Starts it, to wait for the first packet unless ports are forwarded, with one end of a socket pair
 * and returns the other end, close-on-exec. It dies with the calling thread. Prints; -errno.
 * user_process_finish() is due anyway.
 */
int user_process_start(struct user_process *ret, const struct slirp_options *options);

void user_process_kill(struct user_process *process);

/*
 * Once `pidfd` is readable: frees the process, and describes in words how it ended. Returns its
 * exit status, or -1 if a signal killed it.
 */
int user_process_reap(struct user_process *process, char *text, size_t size);

/* Ends it if it has not ended, soon, by itself, because its socket was closed. */
void user_process_finish(struct user_process *process);

#endif
