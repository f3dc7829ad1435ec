/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_SUPERVISOR_H
#define VMM_RUN_SUPERVISOR_H

/*
 * `minivmm run`: runs a command once under each kernel. Returns the exit status: the command's own,
 * or one of vmm/cli/status.h. argv[0] is "run". Must be called on the process's only thread, with
 * signals blocked by front_end_block_signals().
 */
int supervisor_main(int argc, char **argv);

/* `minivmm warm NAME`: also keeps the machine if the command exits with 0. argv[0] is NAME. */
int supervisor_warm(int argc, char **argv);

#endif
