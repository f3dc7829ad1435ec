/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_BOOT_H
#define VMM_CLI_BOOT_H

struct config;

/*
 * The command line's machine: signals ask the guest to power off and then end it, --timeout ends
 * it, or --dry-run only prints it. Returns the exit status (status.h).
 */
int boot_run(const struct config *config);

/* Warns of what a guest ended in, and returns the exit status for it. */
struct life_end;
int boot_guest_status(const struct life_end *end);

#endif
