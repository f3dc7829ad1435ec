/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_BOOT_H
#define VMM_CLI_BOOT_H

struct config;
struct snapshot;

/*
 * Runs the machine of the command line, or goes on with the snapshot whose configuration it is,
 * unless that is NULL. The first signal asks the guest to power off, the next one
 * stops the machine; so does --timeout. With --dry-run only prints the machine. Returns the exit
 * status (status.h). To be called before this process opens any file.
 */
int boot_run(const struct config *config, struct snapshot *snap);

/* The exit status for the guest's own end. Warns of a triple fault. */
struct life_end;
int boot_guest_status(const struct life_end *end);

#endif
