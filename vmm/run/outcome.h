/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_OUTCOME_H
#define VMM_RUN_OUTCOME_H

#include <stdbool.h>

/* What became of a command and its machine: one of the kinds below, and its exit status. */

struct kernel_log;

enum outcome_kind {
    OUTCOME_EXIT,        /* number: the command's exit status */
    OUTCOME_SIGNAL,      /* number: the signal that ended the command */
    OUTCOME_NOT_RUN,     /* number: 126 or 127, as in a shell */
    OUTCOME_TIMEOUT,     /* --timeout was over */
    OUTCOME_HANG,        /* --boot-timeout was over before the command ran */
    OUTCOME_PANIC,       /* the guest's kernel panicked */
    OUTCOME_OOPS,        /* likewise, because of an oops */
    OUTCOME_POWER_OFF,   /* the guest powered off before the command's end */
    OUTCOME_RESET,       /* the guest reset itself before the command's end */
    OUTCOME_INTERRUPTED, /* number: the signal that ended the supervisor */
    OUTCOME_FAILED,      /* minivmm or its agent failed */
};

struct outcome {
    enum outcome_kind kind;
    int number;
    char text[200]; /* details, or "" */
    bool printed;   /* the text is on stderr already */
};

const char *outcome_word(enum outcome_kind kind);  /* for programs, such as "power-off" */
int outcome_status(const struct outcome *outcome); /* the exit status: vmm/cli/status.h */

/* Whether the kernel's last lines help to explain the outcome. */
bool outcome_shows_kernel_log(const struct outcome *outcome);

/* For people, such as "exit 1" or "panic: sysrq triggered crash". */
void outcome_describe(const struct outcome *outcome, char *text, unsigned size);

/*
 * The outcome of a child that ended before the agent reported the command's end, by `wait_status`,
 * from waitpid(), and by whether the command ran: before that, only the agent powers off, when it
 * fails. The log, into which the command can write as well as the kernel, only explains: why there
 * was a panic, and whether by an oops; why the agent failed.
 */
struct outcome outcome_of_child(int wait_status, bool ran, const struct kernel_log *log);

#endif
