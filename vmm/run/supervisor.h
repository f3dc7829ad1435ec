/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_SUPERVISOR_H
#define VMM_RUN_SUPERVISOR_H

/*
 * `minivmm run`: boots a kernel for one command, or several kernels one after another, and returns
 * the exit status: the command's own, or what else became of it (vmm/status.h). argv[0] is "run".
 * There must be one thread only, with signals blocked by front_end_block_signals().
 */
int command_run(int argc, char **argv);

#endif
