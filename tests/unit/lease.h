/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_LEASE_H
#define TESTS_UNIT_LEASE_H

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* Another process that takes a lease on a file, and lets go of it when somebody opens the file. */

static inline void lease_let_go(int signal)
{
    _exit(0); /* which closes the file */
}

static inline void lease_hold(const char *path, int ready)
{
    int fd = open(path, O_RDWR);
    bool taken;

    signal(SIGIO, lease_let_go);
    taken = fd >= 0 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
    if (write(ready, &taken, 1) != 1)
        _exit(1);
    while (taken)
        pause();
    _exit(0);
}

/* The process that holds the lease; it ends when the lease is broken, or if there is none. */
static inline pid_t lease_take(const char *path)
{
    bool taken = false;
    int ends[2];
    pid_t child;

    ck_assert_int_eq(pipe(ends), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        lease_hold(path, ends[1]);
    ck_assert_int_eq(read(ends[0], &taken, 1), 1);
    close(ends[0]);
    close(ends[1]);
    if (!taken)
        printf("# not checked: %s is on a file system without leases\n", path);
    return child;
}

#endif
