/* SPDX-License-Identifier: MIT */
#ifndef VMM_SNAPSHOT_SNAPSHOT_COMMAND_H
#define VMM_SNAPSHOT_SNAPSHOT_COMMAND_H

#include "vmm/config/option.h"

/* `minivmm snapshot`, `restore`, `fork` and `rewind`: these return the exit status. */
int snapshot_main(int argc, char **argv);
int restore_main(int argc, char **argv);
int fork_main(int argc, char **argv);
int rewind_main(int argc, char **argv);

extern const struct option_table snapshot_table, restore_table, fork_table, rewind_table;

#endif
