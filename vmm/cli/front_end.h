/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_FRONT_END_H
#define VMM_CLI_FRONT_END_H

#include <signal.h>

#include "vmm/core/loop.h"
#include "vmm/machine/lifecycle.h"
#include "vmm/machine/machine.h"

/*
 * Runs one machine in this process: main loop, terminals, signals, and a limit for how long the
 * machine may take to stop. struct front_end_ops is what differs between the command line and the
 * child of `minivmm run`.
 */
struct config;
struct control;
struct front_end;
struct snapshot;

/* Called on the main loop. */
struct front_end_ops {
    void (*signal)(struct front_end *f, int signal); /* one of the `signals` has arrived */
    void (*quit)(struct front_end *f);               /* the user typed Ctrl-A x */
    int (*status)(struct front_end *f, const struct life_end *end); /* returns the exit status */
    void (*event)(struct front_end *f, enum life_event event, const char *name); /* or NULL */
    int (*prepare)(struct front_end *f); /* before the machine is built; -errno; may be NULL */
    void (*finish)(struct front_end *f); /* undoes prepare(), failed or not; may be NULL */
};

struct front_end {
    struct snapshot *snapshot; /* set before front_end_run(): what to go on from; NULL: boot */
    const struct front_end_ops *ops;
    struct machine machine;
    struct lifecycle life;
    struct loop *loop;
    struct control *control; /* of --control, or NULL */
    struct watch signals;    /* a signalfd */
    bool stopping;           /* front_end_stop() was called */
    struct watch force;      /* a timer, set by front_end_stop() */
};

/*
 * Builds, runs and destroys the machine; returns the exit status. The calling thread runs the main
 * loop. `signals` go to ops->signal() once all is open, and must be blocked already except for
 * those that early_begin() has unblocked; SIGWINCH and SIGCONT are handled here. `interrupts` as in
 * struct terminal_config.
 */
int front_end_run(struct front_end *f, const struct front_end_ops *ops, const struct config *config,
                  const sigset_t *signals, bool interrupts);

/*
 * Stops the machine, with END_REQUEST and `status` as its code. Drops output that is not being
 * read. If a vCPU or a device does not stop, the process exits with `status`. On the main loop.
 */
void front_end_stop(struct front_end *f, int status);

/*
 * Blocks the signals read by signalfd and no others, ignores SIGPIPE and SIGXFSZ, does not ignore
 * SIGCHLD: whatever the parent has left behind. Before the first thread.
 */
void front_end_block_signals(void);

/* The signals that stop a machine: SIGTERM, SIGINT, and SIGHUP unless ignored (nohup). */
void front_end_stop_signals(sigset_t *set);

#endif
