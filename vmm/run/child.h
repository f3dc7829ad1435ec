/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_CHILD_H
#define VMM_RUN_CHILD_H

#include "vmm/run/mounts.h"
#include "vmm/run/session.h"
#include "vmm/run/user.h"

/*
 * The child process of `minivmm run`: prepares the initramfs and the console's ports, then runs the
 * plain VMM.
 */

struct run_options;

/* What one child is to run. The supervisor owns all memory. */
struct child_params {
    struct run_options *options;
    const char *kernel, *version;
    struct mounts mounts;
    struct user user;
    const char *const *environment; /* ends with NULL */
    char *const *argv;              /* ends with NULL; the command */
    bool boots;                     /* whatever warm machine there is */
    struct snapshot *snap;          /* of --from: `options` has its configuration; NULL: none */
};

/*
 * Runs the machine to its end; returns the exit status. Standard input, output and error become
 * ports of the guest's console, each either a terminal or a stream of bytes, and are closed when
 * the command closes them. For session_config's `run`.
 */
int child_run(const struct child_params *child, const struct session_ends *ends);

#endif
