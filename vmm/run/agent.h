/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_AGENT_H
#define VMM_RUN_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Parses the messages of the agent, the guest's init: one per line, as in firmware/init/job.h. They
 * come from the guest and may be anything.
 */

enum agent_message_kind {
    AGENT_READY,
    AGENT_WARM,
    AGENT_FORKED,
    AGENT_CLOCK,
    AGENT_RUNNING,
    AGENT_NOTE,
    AGENT_EXIT,
    AGENT_SIGNAL,
    AGENT_FAILED,
    AGENT_ERROR,
};

struct agent_message {
    enum agent_message_kind kind;
    uint64_t ms;      /* since the kernel started, by the guest's clock */
    int number;       /* exit status, signal, 126 or 127 */
    int error;        /* errno, or 0 */
    const char *text; /* of a note or an error; "" */
};

/* False: not a message; `*ret` is unchanged. ret->text points into the line. */
bool agent_parse(struct agent_message *ret, const char *line);

#define AGENT_LINE_SIZE 512

/* A line of the guest's, which may arrive in pieces. Starts zeroed. */
struct agent_line {
    char text[AGENT_LINE_SIZE]; /* a longer line is cut off */
    size_t used;
};

/*
 * Takes bytes up to the end of a line and returns their number. `*ret` is then the line, without
 * control characters and valid until the next call, or NULL if it is not complete yet.
 */
size_t agent_take_line(struct agent_line *line, const char *bytes, size_t count, const char **ret);

#endif
