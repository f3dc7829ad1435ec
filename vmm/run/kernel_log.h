/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_KERNEL_LOG_H
#define VMM_RUN_KERNEL_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/run/agent.h"

#define KERNEL_LOG_LINES 60 /* kept in memory */

/* The end of the guest kernel's log, from its serial port. Starts zeroed. */
struct kernel_log {
    const char *echo;       /* print lines at once, after this label; NULL: do not */
    bool stderr_blocked;    /* at the last line, which was dropped */
    struct agent_line line; /* incomplete */
    char lines[KERNEL_LOG_LINES][256];
    unsigned count;  /* of all lines, kept or not */
    char panic[200]; /* message of the last one, or what looks like one; "": none */
    char agent[200]; /* the agent's last error, or what looks like one; "": none */
};

void kernel_log_add(struct kernel_log *log, const char *bytes, size_t count);

/* Whether an oops caused the panic (oops=panic), by its message. */
bool kernel_log_oops(const struct kernel_log *log);

/* Prints the last lines to stderr, after `label`, unless they were printed at once. */
void kernel_log_print(const struct kernel_log *log, const char *label);

#endif
