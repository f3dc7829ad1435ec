/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_AGENT_H
#define VMM_RUN_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the guest's init says, in lines: see firmware/guest/orders.h. Any bytes are safe. */

enum control_kind {
    CONTROL_READY,
    CONTROL_RUNNING,
    CONTROL_NOTE,
    CONTROL_EXIT,
    CONTROL_SIGNAL,
    CONTROL_FAILED,
    CONTROL_ERROR,
};

struct control_message {
    enum control_kind kind;
    uint64_t ms;      /* since the kernel started, by its own clock */
    int number;       /* exit status, signal, 126 or 127 */
    int error;        /* errno, or 0 */
    const char *text; /* of a note or an error; within the line */
};

/* False: not a message. */
bool control_parse(struct control_message *ret, const char *line);

#define CONTROL_LINE 512

/* Gathers bytes into lines. */
struct control_line {
    char text[CONTROL_LINE]; /* what is longer is cut */
    size_t used;
};

/*
 * Takes bytes up to the end of a line, returns how many; `*ret` is then that line, without control
 * characters, until the next call, or NULL if it has not ended yet.
 */
size_t control_take(struct control_line *line, const char *bytes, size_t count, const char **ret);

#endif
