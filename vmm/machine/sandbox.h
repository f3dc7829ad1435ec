/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_SANDBOX_H
#define VMM_MACHINE_SANDBOX_H

#include <stdbool.h>

struct board;

/*
 * Gives up what the process does not need from here on, for good; how much depends on
 * config->sandbox. Called when all files, sockets and devices are open and before there is a second
 * thread: threads inherit it.
 *
 * Afterwards: no new privileges, no capabilities but a file server's; no debugger, no core dump; no
 * file, TCP port or process outside (Landlock) but the shared directories; no system call but those
 * in the tables of sandbox.c, vmm/kvm/confine.c, arch/ and devices/fs/confine.c. Another call ends
 * the process with SIGSYS. Prints what the host lacks; -errno: and it may not be missing.
 * *ret_calls: system calls are restricted.
 */
int sandbox_enter(const struct board *board, bool *ret_calls);

#endif
