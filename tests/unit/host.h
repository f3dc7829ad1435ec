/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_HOST_H
#define TESTS_UNIT_HOST_H

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "vmm/core/loop.h"

/* Pipes, pseudo-terminals, time and test data, for tests of consoles. */

struct host_pipe {
    int reader, writer;
};

static inline struct host_pipe host_pipe(void)
{
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    return (struct host_pipe){ fds[0], fds[1] };
}

/* A pseudo-terminal: the test types on `master`, the console uses `slave`. */
struct host_pty {
    int master, slave;
};

static inline struct host_pty host_pty(void)
{
    struct host_pty pty = { .master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC) };

    ck_assert_int_ge(pty.master, 0);
    ck_assert_int_eq(grantpt(pty.master), 0);
    ck_assert_int_eq(unlockpt(pty.master), 0);
    pty.slave = open(ptsname(pty.master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    ck_assert_int_ge(pty.slave, 0);
    return pty;
}

static inline double host_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/*
 * Runs the loop for a tenth of a second, or longer on a busy host. Returns the number of turns: a
 * few if it sleeps, thousands if it is busy.
 */
static inline unsigned host_turns(struct loop *loop)
{
    double end = host_seconds() + 0.1;
    unsigned turns = 0;

    while (host_seconds() < end || turns < 5) {
        loop_turn(loop, 20);
        turns++;
    }
    return turns;
}

#define HOST_TIMEOUT_S 30 /* generous, for busy hosts */

/* Runs the loop until `*value` is `wanted`. False: timed out. */
static inline bool host_turn_until(struct loop *loop, const size_t *value, size_t wanted)
{
    double end = host_seconds() + HOST_TIMEOUT_S;

    while (*value != wanted && host_seconds() < end)
        loop_turn(loop, 10);
    return *value == wanted;
}

/* Byte i of the test data. Without a short period, to detect lost and repeated blocks. */
static inline uint8_t host_byte(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 17 + (i >> 16));
}

static inline void host_fill(uint8_t *bytes, size_t from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = host_byte(from + i);
}

/* Reads `count` bytes of test data, slowly if `slow`. False: other data, or end of file. */
static inline bool host_expect(int fd, size_t count, bool slow)
{
    uint8_t bytes[3000];
    size_t seen = 0;

    while (seen < count) {
        size_t wanted = count - seen < sizeof(bytes) ? count - seen : sizeof(bytes);
        ssize_t got = read(fd, bytes, wanted);

        if (got <= 0)
            return false;
        for (ssize_t i = 0; i < got; i++)
            if (bytes[i] != host_byte(seen + (size_t)i))
                return false;
        seen += (size_t)got;
        if (slow && seen % 7 == 0)
            usleep(1000);
    }
    return true;
}

static inline struct terminal *host_terminal(struct loop *loop, int input, int output)
{
    const struct terminal_config config = { .input = input, .output = output };
    struct terminal *terminal;

    ck_assert_int_eq(terminal_create(&terminal, &config, loop), 0);
    return terminal;
}

#endif
