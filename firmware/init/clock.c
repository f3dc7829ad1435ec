/* SPDX-License-Identifier: MIT */
#include "firmware/init/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "firmware/init/message.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"

#define NS_PER_S    1000000000l
#define GOOD_NS     4000000l /* an error that is not worth another question */
#define QUESTIONS   8        /* at most: the best answer counts */
#define TIMEOUT_S   30       /* for each */
#define ANSWER_SIZE 64

struct clock_answer {
    long asked;           /* by sys_clock_ns(), before the question was sent */
    long took;            /* ns until the answer was there */
    struct timespec host; /* the host's clock at some time in between */
};

/* Reads a line. False: a time limit is over, or there is no supervisor. */
static bool clock_read_line(int port, char line[ANSWER_SIZE])
{
    const struct timespec timeout = { .tv_sec = TIMEOUT_S };
    size_t used = 0;

    while (used < ANSWER_SIZE) {
        struct pollfd set = { .fd = port, .events = POLLIN };

        if (sys_poll(&set, 1, &timeout) <= 0 || sys_read(port, line + used, 1) != 1)
            return false;
        if (line[used++] == '\n') {
            line[used - 1] = '\0';
            return true;
        }
    }
    return false;
}

/* "time SECONDS NANOSECONDS" */
static bool clock_parse(const char *line, struct timespec *ret)
{
    const char *seconds = text_after(line, "time ");
    const char *space = seconds ? strchr(seconds, ' ') : NULL;

    if (!space)
        return false;
    ret->tv_sec = (long)text_number(seconds);
    ret->tv_nsec = (long)text_number(space + 1);
    return ret->tv_sec > 0 && ret->tv_nsec < NS_PER_S;
}

/* Meanwhile the host's files may change, in a machine that has gone on: see job.h. */
static bool clock_ask(const struct message_sink *sink, struct clock_answer *ret)
{
    char line[ANSWER_SIZE];

    ret->asked = sys_clock_ns();
    message_send(sink, "clock");
    do
        if (!clock_read_line(sink->port, line))
            return false;
    while (!strcmp(line, "names"));
    ret->took = sys_clock_ns() - ret->asked;
    return clock_parse(line, &ret->host);
}

void clock_set(const struct message_sink *sink)
{
    struct clock_answer best = { .took = -1 }, answer;
    long now;
    int error;

    for (unsigned i = 0; i < QUESTIONS && (best.took < 0 || best.took > GOOD_NS); i++) {
        if (!clock_ask(sink, &answer)) {
            message_send_note(sink, 0, "the host does not tell the time", "");
            return;
        }
        if (best.took < 0 || answer.took < best.took)
            best = answer;
    }
    now = best.host.tv_nsec + sys_clock_ns() - best.asked;
    best.host.tv_sec += now / NS_PER_S;
    best.host.tv_nsec = now % NS_PER_S;
    error = sys_set_clock(&best.host);
    if (error)
        message_send_note(sink, error, "set the clock", "");
}
