/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_SESSION_H
#define VMM_RUN_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/run/kernel_log.h"
#include "vmm/run/outcome.h"

/*
 * One machine that runs one command, seen from outside: a process of its own, of which we hold the
 * other ends, and the decision what became of it. Everything here is on the supervisor's thread,
 * which must be the only one, since it forks.
 *
 * The machine ends in one of two ways. Either the guest's init says what became of the command, or
 * a time limit or the user decides: then the process is told to end (SIGUSR2, struct config's
 * `supervised`). Or the process ends by itself, and how it did, with what the kernel said, tells
 * why. When the command runs the process is told, too (SIGURG), for then Ctrl-C on its terminal is
 * the command's.
 */
struct loop;
struct session;

/* The machine's ends, in its process. Standard input, output and error are the command's. */
struct session_ends {
    int control; /* a stream socket: the port ORDERS_CONTROL */
    int log;     /* a pipe, to write to: the serial port */
};

struct session_config {
    const char *label; /* stands before each line of output, which is gathered; "": we are alone */
    uint64_t timeout_ms, boot_timeout_ms; /* 0: none */
    bool verbose;                         /* the kernel's log goes to stderr as it comes */
    int (*machine)(void *owner, const struct session_ends *ends); /* in its process; its status */
    void (*ended)(void *owner); /* session_report() is complete; on the loop */
    void *owner;
};

/* Milliseconds from session_start(), -1: it did not come to that. */
struct session_times {
    int64_t kernel, init, command, end;
};

/* Forks. `config` is copied. Prints; -errno. */
int session_start(struct session **ret, const struct session_config *config, struct loop *loop);

/* SIGCHLD came: the machine may have ended. */
void session_reap(struct session *session);

/*
 * The user's signal: to the command. If there is none yet, or it is not the first, the machine is
 * ended.
 */
void session_signal(struct session *session, int number);

/* After ended(). */
void session_report(const struct session *session, struct outcome *ret_outcome,
                    struct session_times *ret_times);

const struct kernel_log *session_kernel_log(const struct session *session);

void session_destroy(struct session *session); /* kills what is left; accepts NULL */

#endif
