/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_SCHEMA_H
#define VMM_CONFIG_SCHEMA_H

#include "vmm/config/option.h"

/* The options of minivmm; what they fill is a struct config. */
extern const struct option_table config_table;

/* Of --net, for another command line that has it; `at` is that of a struct net_config *. */
extern const struct option config_net_forms[];

#endif
