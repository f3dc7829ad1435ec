/* SPDX-License-Identifier: MIT */
#include "vmm/run/prefix.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"

/* A write of at most PIPE_BUF is atomic, and does not block after POLLOUT. */
#define PREFIX_LINE PIPE_BUF

struct prefix {
    const char *label;
    struct loop *loop;
    struct watch from, to; /* fd -1: not polled now */
    int source;            /* -1: at its end */
    int sink;
    char line[PREFIX_LINE];
    size_t used; /* of the line; 0: the label is not in it either */
    bool whole;  /* the line is complete and must be written */
    char bytes[4096];
    size_t next, count; /* bytes that were read and are not yet in a line */
    void (*ended)(void *owner);
    void *owner;
};

static void prefix_close(struct prefix *prefix)
{
    if (prefix->source >= 0)
        close(prefix->source);
    prefix->source = -1;
}

static void prefix_put(struct prefix *prefix, char c)
{
    if (prefix->used == 0) {
        prefix->used = strlen(prefix->label);
        memcpy(prefix->line, prefix->label, prefix->used);
    }
    prefix->line[prefix->used++] = c;
    prefix->whole = c == '\n' || prefix->used == sizeof(prefix->line) - 1;
    if (prefix->whole && c != '\n')
        prefix->line[prefix->used++] = '\n';
}

/* Moves bytes into the line until it is complete; then polls for writing, else for reading. */
static void prefix_fill(struct prefix *prefix)
{
    while (!prefix->whole && prefix->next < prefix->count)
        prefix_put(prefix, prefix->bytes[prefix->next++]);
    if (!prefix->whole && prefix->source < 0 && prefix->used > 0)
        prefix_put(prefix, '\n');
    prefix->from.fd = prefix->whole ? -1 : prefix->source;
    prefix->to.fd = prefix->whole ? prefix->sink : -1;
}

static void prefix_to_ready(struct watch *watch, short revents)
{
    struct prefix *prefix = container_of(watch, struct prefix, to);
    ssize_t written = write(prefix->sink, prefix->line, prefix->used);

    if (written < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (written < 0) { /* no reader: the child gets EPIPE */
        prefix_close(prefix);
        prefix->next = prefix->count;
        written = (ssize_t)prefix->used;
    }
    prefix->used -= (size_t)written;
    memmove(prefix->line, prefix->line + written, prefix->used);
    prefix->whole = prefix->used > 0;
    prefix_fill(prefix);
    if (prefix_ended(prefix))
        prefix->ended(prefix->owner);
}

static void prefix_from_ready(struct watch *watch, short revents)
{
    struct prefix *prefix = container_of(watch, struct prefix, from);
    ssize_t count = read(prefix->source, prefix->bytes, sizeof(prefix->bytes));

    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    prefix->next = 0;
    prefix->count = count > 0 ? (size_t)count : 0;
    if (count <= 0)
        prefix_close(prefix);
    prefix_fill(prefix);
    if (prefix_ended(prefix))
        prefix->ended(prefix->owner);
}

int prefix_create(struct prefix **ret, const char *label, int from, int to, struct loop *loop,
                  void (*ended)(void *owner), void *owner)
{
    struct prefix *prefix = calloc(1, sizeof(*prefix));

    if (!prefix)
        return log_error(ENOMEM, "output");
    *prefix = (struct prefix){ .label = label,
                               .loop = loop,
                               .source = from,
                               .sink = to,
                               .from = { .events = POLLIN, .ready = prefix_from_ready },
                               .to = { .events = POLLOUT, .ready = prefix_to_ready },
                               .ended = ended,
                               .owner = owner };
    prefix_fill(prefix);
    loop_add(loop, &prefix->from);
    loop_add(loop, &prefix->to);
    *ret = prefix;
    return 0;
}

void prefix_destroy(struct prefix *prefix)
{
    if (!prefix)
        return;
    loop_remove(prefix->loop, &prefix->from);
    loop_remove(prefix->loop, &prefix->to);
    prefix_close(prefix);
    free(prefix);
}

bool prefix_ended(const struct prefix *prefix)
{
    return !prefix || (prefix->source < 0 && prefix->used == 0 && prefix->next == prefix->count);
}
