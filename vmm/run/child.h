/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_CHILD_H
#define VMM_RUN_CHILD_H

#include "vmm/run/mounts.h"
#include "vmm/run/session.h"
#include "vmm/run/user.h"

/* The machine's side of `minivmm run`, in its own process. */

struct command;

struct guest {
    struct command *command;
    const char *kernel, *version;
    struct places places;
    struct user user;
    const char *const *environment;
    char *const *argv;
};

/*
 * Makes the initramfs, connects the command to standard input, output and error, each either as a
 * terminal or as a stream of bytes, and runs the machine. For session_config's `machine`.
 */
int guest_run(const struct guest *guest, const struct session_ends *ends);

#endif
