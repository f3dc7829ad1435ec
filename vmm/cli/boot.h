/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_BOOT_H
#define VMM_CLI_BOOT_H

#include <signal.h>

struct config;

/*
 * Builds the machine, runs it to its end, whatever that is, and takes it down. Returns the exit
 * status (vmm/status.h). The calling thread becomes the main loop; the signals it handles must be
 * blocked already: see run_block_signals().
 */
int run_machine(const struct config *config);

/* Before the first thread: SIGTERM and friends come by signalfd, SIGPIPE and SIGXFSZ not at all. */
void run_block_signals(void);

/* Adds SIGHUP to those that are handled, unless it is ignored: nohup's child outlives its shell. */
void run_add_hangup(sigset_t *set);

#endif
