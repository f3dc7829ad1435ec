/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_OUTCOME_H
#define VMM_RUN_OUTCOME_H

#include <stdbool.h>

/* What became of a command and its machine. */

struct kernel_log;

enum outcome_kind {
    OUTCOME_EXIT,        /* number: the command's exit status */
    OUTCOME_SIGNAL,      /* number: the signal that ended the command */
    OUTCOME_NOT_RUN,     /* number: 126 or 127 */
    OUTCOME_TIMEOUT,     /* --timeout */
    OUTCOME_HANG,        /* --boot-timeout */
    OUTCOME_PANIC,       /* of the guest's kernel */
    OUTCOME_OOPS,        /* that led to a panic */
    OUTCOME_POWER_OFF,   /* the guest switched itself off before the command's end */
    OUTCOME_RESET,       /* or reset itself */
    OUTCOME_INTERRUPTED, /* number: the signal that ended us */
    OUTCOME_FAILED,      /* minivmm did not do its part */
};

struct outcome {
    enum outcome_kind kind;
    int number;
    char text[200]; /* what else there is to say; "" */
    bool told;      /* and it was said on standard error when it happened */
};

const char *outcome_word(enum outcome_kind kind);     /* "power-off", for programs */
int outcome_status(const struct outcome *outcome);    /* the exit status: vmm/status.h */
bool outcome_by_guest(const struct outcome *outcome); /* its kernel's last lines are of interest */

/* "exit 1", "panic: sysrq triggered crash" */
void outcome_describe(const struct outcome *outcome, char *text, unsigned size);

/*
 * Of a machine that ended before its init had said what became of the command: `wait_status` is
 * its process', as waitpid() has it.
 */
struct outcome outcome_of_machine(int wait_status, const struct kernel_log *log);

#endif
