/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_SCHEMA_H
#define VMM_CONFIG_SCHEMA_H

#include "vmm/config/option.h"

/* The command line of minivmm, which describes a machine. */
struct config;

enum config_result { CONFIG_RUN, CONFIG_DONE, CONFIG_USAGE };

/*
 * Reads the command line; config_finish() is due whatever the result. CONFIG_DONE after --help or
 * --version, whose text went to stdout. CONFIG_USAGE after one line on stderr that names the wrong
 * word and the remedy.
 */
enum config_result config_parse(struct config *config, int argc, char **argv);

extern const struct option_table config_table;

/* Of --net, for another command line that has it too: `at` is where its struct config is. */
extern const struct option config_net_forms[];

#endif
