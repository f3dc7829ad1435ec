/* SPDX-License-Identifier: MIT */
#include "vmm/run/outcome.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "vmm/cli/status.h"
#include "vmm/run/kernel_log.h"

/* Status -1: it is outcome.number. STATUS_SIGNAL: outcome.number is added. */
static const struct {
    const char *word;
    int status;
} outcomes[] = {
    [OUTCOME_EXIT] = { "exit", -1 },
    [OUTCOME_SIGNAL] = { "signal", STATUS_SIGNAL },
    [OUTCOME_NOT_RUN] = { "not-run", -1 },
    [OUTCOME_TIMEOUT] = { "timeout", STATUS_TIMEOUT },
    [OUTCOME_HANG] = { "hang", STATUS_HANG },
    [OUTCOME_PANIC] = { "panic", STATUS_PANIC },
    [OUTCOME_OOPS] = { "oops", STATUS_OOPS },
    [OUTCOME_POWER_OFF] = { "power-off", STATUS_GONE },
    [OUTCOME_RESET] = { "reset", STATUS_RESET },
    [OUTCOME_INTERRUPTED] = { "interrupted", STATUS_SIGNAL },
    [OUTCOME_FAILED] = { "failed", STATUS_FAILED },
};

const char *outcome_word(enum outcome_kind kind)
{
    return outcomes[kind].word;
}

int outcome_status(const struct outcome *outcome)
{
    int status = outcomes[outcome->kind].status;

    if (status < 0)
        return outcome->number;
    return status == STATUS_SIGNAL ? status + outcome->number : status;
}

bool outcome_shows_kernel_log(const struct outcome *outcome)
{
    switch (outcome->kind) {
    case OUTCOME_HANG:
    case OUTCOME_PANIC:
    case OUTCOME_OOPS:
    case OUTCOME_POWER_OFF:
    case OUTCOME_RESET:
        return true;
    case OUTCOME_FAILED:
        return !outcome->printed;
    default:
        return false;
    }
}

void outcome_describe(const struct outcome *outcome, char *text, unsigned size)
{
    char number[16] = "";

    if (outcome->kind == OUTCOME_EXIT || outcome->kind == OUTCOME_SIGNAL ||
        outcome->kind == OUTCOME_INTERRUPTED)
        snprintf(number, sizeof(number), " %d", outcome->number);
    snprintf(text, size, "%s%s%s%s", outcome_word(outcome->kind), number,
             *outcome->text ? ": " : "", outcome->text);
}

/* A child that exits with STATUS_FAILED has printed the reason: no text. */
static struct outcome outcome_of_failure(int wait_status)
{
    struct outcome outcome = { .kind = OUTCOME_FAILED };

    if (WIFSIGNALED(wait_status))
        snprintf(outcome.text, sizeof(outcome.text),
                 "the machine's process was killed by a signal: %s",
                 strsignal(WTERMSIG(wait_status)));
    else if (WEXITSTATUS(wait_status) != STATUS_FAILED)
        snprintf(outcome.text, sizeof(outcome.text), "the machine ended with status %d",
                 WEXITSTATUS(wait_status));
    return outcome;
}

struct outcome outcome_of_child(int wait_status, bool ran, const struct kernel_log *log)
{
    struct outcome outcome = { .kind = OUTCOME_PANIC };

    switch (WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : STATUS_FAILED) {
    case STATUS_PANIC:
        if (kernel_log_oops(log))
            outcome.kind = OUTCOME_OOPS;
        snprintf(outcome.text, sizeof(outcome.text), "%s", log->panic);
        return outcome;
    case STATUS_POWER_OFF:
        outcome.kind = ran ? OUTCOME_POWER_OFF : OUTCOME_FAILED;
        if (!ran)
            snprintf(outcome.text, sizeof(outcome.text), "%s",
                     *log->agent ? log->agent : "the guest powered off before the command ran");
        return outcome;
    case STATUS_RESET:
    case STATUS_TRIPLE_FAULT:
        outcome.kind = OUTCOME_RESET;
        return outcome;
    case STATUS_SIGNAL + 2:
        return (struct outcome){ .kind = OUTCOME_INTERRUPTED, .number = 2 };
    default:
        return outcome_of_failure(wait_status);
    }
}
