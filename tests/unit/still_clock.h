/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_STILL_CLOCK_H
#define TESTS_UNIT_STILL_CLOCK_H

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A clock for tests: once a test sets a time, the clock stays there. */
static struct timespec still_time;

/* Replaces libc's. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (still_time.tv_sec == 0)
        return (int)syscall(SYS_clock_gettime, clock, ret);
    *ret = still_time;
    return 0;
}

static inline void still_clock_set_ms(long ms)
{
    still_time = (struct timespec){ ms / 1000, ms % 1000 * 1000000 };
}

#endif
