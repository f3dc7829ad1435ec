/* SPDX-License-Identifier: MIT */
#ifndef VMM_CONFIG_SCHEMA_H
#define VMM_CONFIG_SCHEMA_H

#include "vmm/config/option.h"

/* The command line of minivmm, as a table of options that fill struct config. */
struct config;

enum config_result { CONFIG_RUN, CONFIG_DONE, CONFIG_USAGE, CONFIG_FAILED };

/*
 * Reads the command line. An option of `other`, if that is not NULL, is refused as one of another
 * command line. CONFIG_DONE: --help or --version has been printed. CONFIG_USAGE: an error has been
 * printed, one line that names the wrong word and the remedy. CONFIG_FAILED: the same of another
 * failure, such as a full disk under --help. config_finish() must follow in all cases.
 */
enum config_result config_parse(struct config *config, const struct option_table *other, int argc,
                                char **argv);

extern const struct option_table config_table;

/* read() of --control; the table's base begins with a struct config. */
int config_read_control(struct option_reader *r, char *value, void *target);

/* Forms of options for `minivmm run` too: their targets are offsets in a struct config. */
extern const struct option config_disk_forms[], config_net_forms[], config_cpus_forms[];
/* Those of --serial and --console, which store to a struct console_config. */
extern const struct option config_console_forms[];

#endif
