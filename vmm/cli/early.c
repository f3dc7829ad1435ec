/* SPDX-License-Identifier: MIT */
#include "vmm/cli/early.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cli/front_end.h"
#include "vmm/core/base.h"

#define LATE_MS 3000 /* for hosts that are merely slow */
#define KILL_MS 1000 /* after the limit, if SIGALRM's handler has not run */

/* Global, because a signal handler needs the message, and early_end() the timers. */
static struct {
    char message[160];
    int status;
    timer_t timers[2];
    unsigned count;
} early;

static void early_expired(int signal)
{
    if (write(STDERR_FILENO, early.message, strlen(early.message)) < 0)
        _exit(early.status); /* nowhere to report it */
    _exit(early.status);
}

static void early_set_timer(int signal, uint64_t ms)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal };
    struct itimerspec spec = { .it_value = { .tv_sec = (time_t)(ms / 1000),
                                             .tv_nsec = (long)(ms % 1000) * 1000000 } };

    if (timer_create(CLOCK_MONOTONIC, &event, &early.timers[early.count]) == 0)
        timer_settime(early.timers[early.count++], 0, &spec, NULL);
}

void early_begin(const char *option, uint64_t timeout_ms, int status)
{
    sigset_t set;

    front_end_stop_signals(&set);
    if (timeout_ms) {
        early.status = status;
        snprintf(early.message, sizeof(early.message),
                 "minivmm: %s: %llu ms have passed while files were opened; does the file system "
                 "of one not answer?\n",
                 option, (unsigned long long)timeout_ms);
        sigaddset(&set, SIGALRM);
        signal(SIGALRM, early_expired);
        early_set_timer(SIGALRM, timeout_ms + LATE_MS);
        early_set_timer(SIGKILL, timeout_ms + LATE_MS + KILL_MS);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void early_end(void)
{
    sigset_t set;

    front_end_stop_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (early.count == 0)
        return;
    while (early.count > 0)
        timer_delete(early.timers[--early.count]);
    signal(SIGALRM, SIG_DFL);
}
