/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_FRONT_END_H
#define VMM_CLI_FRONT_END_H

#include <signal.h>

#include "vmm/core/loop.h"
#include "vmm/machine/lifecycle.h"
#include "vmm/machine/machine.h"

/*
 * A process that runs one machine on its main thread: loop, terminals, signals, and the time that
 * an end may take. What differs between the command line and the child of `minivmm run` is in
 * struct front_end_ops.
 */
struct config;
struct front_end;

/* On the main loop. */
struct front_end_ops {
    void (*signal)(struct front_end *f, int signal); /* one of its own */
    void (*quit)(struct front_end *f);               /* the user leaves by the keyboard */
    int (*status)(struct front_end *f, const struct life_end *end); /* of the process */
    int (*prepare)(struct front_end *f); /* before the machine is built; -errno; may be NULL */
    void (*finish)(struct front_end *f); /* undoes it, half done too; may be NULL */
};

struct front_end {
    const struct front_end_ops *ops;
    struct machine machine;
    struct lifecycle life;
    struct loop *loop;
    struct watch signals; /* a signalfd */
    struct watch force;   /* a timer, once front_end_end() was called */
};

/*
 * Runs the machine to its end, whatever that is, and takes it down; returns the exit status. The
 * calling thread becomes the main loop. `signals` are the ops' own, blocked already; SIGWINCH and
 * SIGCONT are looked after here. `interrupts` as in struct terminal_config.
 */
int front_end_run(struct front_end *f, const struct front_end_ops *ops, const struct config *config,
                  const sigset_t *signals, bool interrupts);

/*
 * Stops the machine: ops->status() is told END_REQUEST with `status`. Output that nobody reads is
 * given up, and if a vCPU or a device does not come to its end the process exits with `status`. On
 * the main loop.
 */
void front_end_end(struct front_end *f, int status);

/* Before the first thread: SIGTERM and friends come by signalfd, SIGPIPE and SIGXFSZ not at all. */
void front_end_block_signals(void);

/* The signals that end a machine: SIGTERM, SIGINT, and SIGHUP unless nohup has it ignored. */
void front_end_deadly_signals(sigset_t *set);

#endif
