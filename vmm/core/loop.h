/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_LOOP_H
#define VMM_CORE_LOOP_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A poll() loop and the thread that runs it. Whatever it calls runs on that thread, one call at a
 * time. Until loop_start() or loop_run() the loop belongs to the thread that created it. poll()
 * rather than epoll: a loop watches a handful of descriptors, regular files may be among them, and
 * libraries that poll for themselves (libslirp) join in as they are.
 */
struct loop;

/* A descriptor the loop looks after. Part of its owner, found back with container_of(). */
struct watch {
    int fd;       /* stays the owner's to close; -1 is never ready */
    short events; /* POLLIN, POLLOUT; may be changed on the loop's thread at any time */
    void (*ready)(struct watch *watch, short revents);
    struct watch *next; /* the loop's */
};

/* The descriptors of one round, and how to add to them. */
struct poll_set {
    struct pollfd *fds;
    unsigned count, capacity;
};

/* Returns the entry's index in `fds`, or -ENOMEM. */
int poll_set_add(struct poll_set *set, int fd, short events);

/* Somebody with descriptors and time-outs of its own: asked before each poll(), told after it. */
struct poller {
    void (*prepare)(struct poller *poller, struct poll_set *set, uint32_t *timeout_ms);
    void (*dispatch)(struct poller *poller, const struct poll_set *set);
};

struct loop *loop_create(void);       /* NULL: out of memory or descriptors (errno) */
void loop_destroy(struct loop *loop); /* accepts NULL; stops and joins its thread */

int loop_start(struct loop *loop, const char *name); /* its own thread; 0 or -errno */
void loop_join(struct loop *loop); /* ends its thread; the loop is the caller's again */
void loop_run(struct loop *loop);  /* this thread, until loop_stop() */
void loop_stop(struct loop *loop); /* from the loop's thread */
void loop_turn(struct loop *loop, int timeout_ms); /* one round of loop_run(); -1: wait */
uint64_t
loop_turns(const struct loop *loop); /* how many there were: on its thread, or afterwards */

/* On the loop's thread, or before it has one. No ready() call follows loop_remove(). */
void loop_add(struct loop *loop, struct watch *watch);
void loop_remove(struct loop *loop, struct watch *watch);
void loop_set_poller(struct loop *loop, struct poller *poller); /* one at most; NULL takes it off */

bool loop_is_here(const struct loop *loop); /* is this its thread? */

/*
 * Runs fn(arg) on the loop's thread and returns when it has. From any thread, its own included;
 * a loop's thread must not call another loop that might be calling it.
 */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/*
 * The same, but gives up if fn has not begun by `deadline_ns` (clock_now_ns()), as where the loop
 * waits for something of the host's: false, and fn will not be called. Once begun fn is waited for.
 */
bool loop_call_by(struct loop *loop, void (*fn)(void *arg), void *arg, uint64_t deadline_ns);

#endif
