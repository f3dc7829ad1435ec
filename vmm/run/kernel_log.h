/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_KERNEL_LOG_H
#define VMM_RUN_KERNEL_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/run/agent.h"

#define KERNEL_LOG_LINES 30 /* that are kept */

/* What the guest's kernel has said on its serial port, the end of it. Starts zeroed. */
struct kernel_log {
    const char *echo;         /* each line goes to stderr as it comes, behind this label; or NULL */
    bool deaf;                /* nobody takes what is echoed */
    struct control_line line; /* being written */
    char lines[KERNEL_LOG_LINES][256];
    unsigned count; /* of all lines, kept or not */
    bool panicked;
    char panic[200]; /* why: the first time, which the others follow from */
};

void kernel_log_add(struct kernel_log *log, const char *bytes, size_t count);

/* A panic that an oops led to (oops=panic). */
bool kernel_log_oops(const struct kernel_log *log);

/* The last lines on stderr, behind `label`, unless there are none or they are there already. */
void kernel_log_print(const struct kernel_log *log, const char *label);

#endif
