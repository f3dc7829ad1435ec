/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_OPTIONS_H
#define VMM_RUN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/config/config.h"
#include "vmm/config/schema.h"

/* What the command line of `minivmm run` says, and no more. */

/* One of the words of an option that may be given again, in the order given. */
struct command_word {
    const char *text;
    bool writable; /* of a share: --rw */
    struct command_word *next;
};

struct command {
    struct config machine; /* how large it is, and its network; owns all memory here */
    struct command_word *kernels;
    struct command_word *shares;      /* DIR[:GUESTDIR] */
    struct command_word *environment; /* NAME[=VALUE] */
    /* NULL where nothing was said. */
    const char *modules, *root, *cwd, *user, *cmdline, *json;
    uint64_t timeout_ms; /* 0: none */
    uint64_t boot_timeout_ms;
    unsigned jobs;
    bool verbose;
    char **argv; /* the command, within the caller's words; empty: none was given */
};

/* As config_parse(); command_finish() is due whatever the result. */
enum config_result command_parse(struct command *command, int argc, char **argv);
void command_finish(struct command *command);

/* Text that lives as long as the command. NULL, after a message: out of memory. */
char *command_format(struct command *command, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

extern const struct option_table command_table;

#endif
