/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_REPORT_H
#define VMM_RUN_REPORT_H

#include <stdio.h>

#include "vmm/run/outcome.h"
#include "vmm/run/session.h"

/* Results of sessions, for programs and for people. */

struct report {
    const char *kernel, *version; /* the file, and kernel_version(); NULL: unknown */
    struct outcome outcome;
    struct session_times times;
};

/* Writes one JSON object, or an array if `count` is more than 1. The caller checks ferror(). */
void report_json(FILE *file, const struct report *reports, unsigned count);

/* Writes a table for people: a line for each kernel. */
void report_table(FILE *file, const struct report *reports, unsigned count);

#endif
