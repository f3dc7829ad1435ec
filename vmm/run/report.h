/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_REPORT_H
#define VMM_RUN_REPORT_H

#include <stdio.h>

#include "vmm/run/outcome.h"
#include "vmm/run/session.h"

/* What is told of one or several kernels' runs. */

struct trial {
    const char *kernel, *version; /* file, and what it says it is; NULL: it did not come to that */
    struct outcome outcome;
    struct session_times times;
};

/* One object; an array of them if the user asked for several kernels. */
void report_json(FILE *file, const struct trial *trials, unsigned count);

/* For people: a line for each kernel. */
void report_table(FILE *file, const struct trial *trials, unsigned count);

#endif
