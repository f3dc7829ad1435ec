/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_SESSION_H
#define VMM_RUN_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/run/kernel_log.h"
#include "vmm/run/outcome.h"

/*
 * The run of one child: forks it, reads the agent's messages and the kernel's log, and decides the
 * outcome. Everything here runs on the supervisor's thread, which must be the only one, since it
 * forks.
 *
 * A session ends in one of two ways. Either the agent, a time limit or the user decides the
 * outcome; then SIGUSR2 asks the child to stop its machine. Or the child ends by itself; then its
 * exit status decides, and the kernel's log explains. A child that is killed, or has exited but for
 * a thread that the host keeps waiting, is given a few seconds and then left alone. SIGURG tells
 * the child that the command runs: from then on Ctrl-C goes to the command. SIGPROF tells it that
 * the agent waits for its job, or has it. If it waits for another one when the command has run, the
 * child saves the machine and ends.
 */
struct loop;
struct session;

/* The child's ends of its connections. Standard input, output and error are the command's. */
struct session_ends {
    int agent;  /* a stream socket, for the port JOB_PORT_AGENT */
    int log;    /* a pipe's writing end, for the serial port */
    int names;  /* our end of `agent`: what is written here the agent reads, as from us */
    bool *warm; /* shared with us: the child goes on from a warm machine */
    bool *kept; /* likewise: it has left one with the name that the user gave */
};

struct session_config {
    const char *label; /* put before each line of output; "": the child writes by itself */
    uint64_t timeout_ms, boot_timeout_ms; /* 0: none */
    uint64_t grace_ms;                    /* from SIGTERM or SIGHUP until the machine is stopped */
    int keep;                             /* a descriptor that the child needs; -1: none */
    bool must_keep;                       /* no success unless the child has kept its machine */
    bool verbose;                         /* print the kernel's log to stderr at once */
    int (*run)(void *owner, const struct session_ends *ends); /* in the child; its exit status */
    void (*begun)(void *owner); /* the agent runs, and has its job or gets it; on the loop */
    void (*ended)(void *owner); /* session_report() is complete; likewise */
    void *owner;
};

/* Milliseconds since session_start(); -1: not reached. */
struct session_times {
    int64_t kernel, init, command, end;
};

/* Forks the child. Copies `config`. Prints errors; -errno. */
int session_start(struct session **ret, const struct session_config *config, struct loop *loop);

/* To be called after SIGCHLD: reaps the child if it has ended. */
void session_reap(struct session *session);

/*
 * Handles a signal of the user: the first one is sent to the command. A second one, one before the
 * command runs, or the end of the time of grace stops the machine.
 */
void session_signal(struct session *session, int number);

/* Valid after ended(). */
void session_report(const struct session *session, struct outcome *ret_outcome,
                    struct session_times *ret_times);

/*
 * Likewise: the child went on from a warm machine, in which nothing has begun, as another host or
 * kernel may prevent. Another child can boot instead: no input was read, and no output written.
 */
bool session_was_stillborn(const struct session *session);

const struct kernel_log *session_kernel_log(const struct session *session);

void session_destroy(struct session *session); /* kills the child if it runs; accepts NULL */

#endif
