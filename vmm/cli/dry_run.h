/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_DRY_RUN_H
#define VMM_CLI_DRY_RUN_H

struct machine;

/* Prints on stdout what machine_describe() found: memory, devices, addresses and interrupts. */
void dry_run_print(const struct machine *machine);

#endif
