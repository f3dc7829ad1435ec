/* SPDX-License-Identifier: MIT */
#ifndef VMM_COMMAND_GUEST_H
#define VMM_COMMAND_GUEST_H

#include "vmm/command/places.h"
#include "vmm/command/session.h"
#include "vmm/command/user.h"

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
