/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_WARM_COMMAND_H
#define VMM_RUN_WARM_COMMAND_H

#include "vmm/config/option.h"

/* `minivmm warm`: makes, lists and removes warm machines. Returns the exit status. */
int warm_main(int argc, char **argv);

extern const struct option_table warm_table;

#endif
