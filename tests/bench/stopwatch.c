/* SPDX-License-Identifier: MIT */

/*
 *     stopwatch MARKER SECONDS wait|kill|order COMMAND...
 *
 * Runs a command and prints, in nanoseconds since before exec, when MARKER appeared on its standard
 * output and when it ended; then its status as wait() has it, and CLOCK_MONOTONIC before exec.
 * Kills the command after SECONDS, or (kill) at the marker. With "order" the clock starts when the
 * command has printed something, and gets a byte on its standard input, instead of before exec.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TAIL 4096 /* bytes of output searched at a time */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static pid_t start(char **command, int *ret_output, int *ret_input)
{
    int output[2], input[2];
    pid_t pid;

    if (pipe2(output, O_CLOEXEC) < 0 || (ret_input && pipe2(input, O_CLOEXEC) < 0))
        exit(1);
    pid = vfork();
    if (pid == 0) {
        dup2(output[1], STDOUT_FILENO);
        if (ret_input)
            dup2(input[0], STDIN_FILENO);
        execvp(command[0], command);
        _exit(127);
    }
    close(output[1]);
    *ret_output = output[0];
    if (ret_input) {
        close(input[0]);
        *ret_input = input[1];
    }
    return pid;
}

/* Waits for the command's first output, which is discarded. Returns when the order was given. */
static int64_t give_order(int output, int input)
{
    char text[TAIL];
    int64_t begin;

    if (read(output, text, sizeof(text)) <= 0)
        exit(1);
    begin = now_ns();
    if (write(input, "", 1) != 1)
        exit(1);
    return begin;
}

/* Reads until the deadline, the end of the file or, if asked, the marker. Returns when that
 * appeared, or -1. */
static int64_t watch(int output, const char *marker, bool to_marker, int64_t deadline)
{
    struct pollfd poller = { .fd = output, .events = POLLIN };
    size_t keep = strlen(marker) - 1, have = 0;
    int64_t seen = -1;
    char text[TAIL];

    for (;;) {
        int64_t left = (deadline - now_ns() + 999999) / 1000000; /* not to wake before it */
        ssize_t n;

        if (left <= 0 || poll(&poller, 1, (int)left) <= 0)
            return seen;
        n = read(output, text + have, sizeof(text) - have);
        if (n <= 0)
            return seen;
        have += (size_t)n;
        if (seen < 0 && memmem(text, have, marker, strlen(marker)))
            seen = now_ns();
        if (seen >= 0 && to_marker)
            return seen;
        if (have > keep) {
            memmove(text, text + have - keep, keep);
            have = keep;
        }
    }
}

int main(int argc, char **argv)
{
    int64_t begin = now_ns(), deadline, seen;
    int output, input, status = 0;
    bool to_marker, by_order;
    pid_t pid;

    if (argc < 5 || !*argv[1])
        return 2;
    to_marker = strcmp(argv[3], "kill") == 0;
    by_order = strcmp(argv[3], "order") == 0;
    deadline = begin + strtoll(argv[2], NULL, 10) * 1000000000ll;
    pid = start(argv + 4, &output, by_order ? &input : NULL);
    if (by_order)
        begin = give_order(output, input);
    seen = watch(output, argv[1], to_marker, deadline);
    if (to_marker || now_ns() >= deadline)
        kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    printf("%lld %lld %d %lld\n", seen < 0 ? -1ll : (long long)(seen - begin),
           (long long)(now_ns() - begin), status, (long long)begin);
    return 0;
}
