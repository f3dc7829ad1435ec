/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_OPTIONS_H
#define VMM_RUN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/config/config.h"
#include "vmm/config/schema.h"

/* Parses the command line of `minivmm run`. Does not check that files exist. */

/* One value of an option that can be repeated, in the order given. */
struct run_word {
    const char *text;
    bool writable; /* --rw rather than --ro */
    struct run_word *next;
};

struct run_options {
    struct config machine; /* memory, CPUs and network; its arena owns all memory here */
    struct run_word *kernels;
    struct run_word *shares;      /* DIR[:GUESTDIR] */
    struct run_word *environment; /* NAME[=VALUE] */
    /* NULL: not given. */
    const char *modules, *root, *cwd, *user, *cmdline, *json;
    const char *from, *on_fork;
    const char *name;         /* not an option: of `minivmm warm NAME`; NULL: `minivmm run` */
    uint64_t timeout_ms;      /* 0: none */
    uint64_t boot_timeout_ms; /* 0: none */
    uint64_t grace_ms;
    unsigned jobs;
    bool verbose;
    bool warm;
    bool guarded; /* of --rw: see struct share_options */
    char **argv;  /* the command, in the caller's argv; argv[0] NULL: none given */
};

/*
 * `name` as in struct run_options. Returns as config_parse(). Call run_options_finish() whatever
 * the result.
 */
enum config_result run_options_parse(struct run_options *options, const char *name, int argc,
                                     char **argv);
void run_options_finish(struct run_options *options);

/* Formats a string in the options' arena. Out of memory: NULL, after a message. */
char *run_options_format(struct run_options *options, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

extern const struct option_table run_options_table;

#endif
