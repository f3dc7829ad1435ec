/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_DRY_RUN_H
#define VMM_CLI_DRY_RUN_H

struct machine;

/*
 * Prints to stdout what machine_describe() planned: memory, devices, addresses, interrupts. -errno
 * if it cannot be written, after a message.
 */
int dry_run_print(const struct machine *machine);

#endif
