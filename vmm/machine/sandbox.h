/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_SANDBOX_H
#define VMM_MACHINE_SANDBOX_H

#include <stdbool.h>

struct board;

struct sandbox {
    char missing[128]; /* names of what the host lacks */
    bool calls;        /* system calls are restricted */
};

/*
 * Gives up what the process does not need from here on, for good; how much depends on
 * config->sandbox. In two steps. Both print; -errno: what the host lacks may not be missing.
 *
 * Afterwards: no new privileges, no capabilities but a file server's; no debugger, no core dump; no
 * file, TCP port or abstract socket outside (Landlock) but the shared directories; no system call
 * but those in the tables of sandbox.c, vmm/kvm/confine.c, arch/ and devices/fs/confine.c. Another
 * call ends the process with SIGSYS.
 */

/* All but the system calls. When everything is open, and before there is a second thread. */
int sandbox_enter(struct sandbox *sandbox, const struct board *board);

/* Then system calls, of all threads; none has a filter yet. Warns of all that is missing. */
int sandbox_restrict_calls(struct sandbox *sandbox, const struct board *board);

#endif
