/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_LOOP_H
#define VMM_CORE_LOOP_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * An event loop around poll(), and the thread that runs it. All callbacks run on that thread, one
 * at a time. Until loop_start() or loop_run() the loop belongs to the thread that created it.
 *
 * poll() rather than epoll: a loop watches few descriptors, regular files may be among them, and a
 * library that brings its own descriptors to poll (libslirp) fits in without changes.
 */
struct loop;

/* A descriptor that the loop polls. Embedded in its owner: ready() uses container_of(). */
struct watch {
    int fd;       /* closed by the owner; -1 is never ready */
    short events; /* POLLIN, POLLOUT; may be changed on the loop's thread at any time */
    void (*ready)(struct watch *watch, short revents);
    struct watch *next; /* in the loop's list */
};

/* The descriptors passed to one poll(). */
struct poll_set {
    struct pollfd *fds;
    unsigned count, capacity;
};

/* Returns the entry's index in `fds`, or -ENOMEM. */
int poll_set_add(struct poll_set *set, int fd, short events);

/* A library with descriptors and timers of its own. Called on the loop's thread. */
struct poller {
    /* Before each poll(): adds descriptors, and lowers *timeout_ms (UINT32_MAX: none). */
    void (*prepare)(struct poller *poller, struct poll_set *set, uint32_t *timeout_ms);
    /* After that poll(), with the revents in `set`. */
    void (*dispatch)(struct poller *poller, const struct poll_set *set);
};

struct loop *loop_create(void);       /* NULL: out of memory or descriptors (errno) */
void loop_destroy(struct loop *loop); /* accepts NULL; stops and joins its thread */

/* On a new thread called `name`, which is not copied. 0 or -errno. */
int loop_start(struct loop *loop, const char *name);
void loop_join(struct loop *loop); /* ends that thread; the loop belongs to the caller again */
void loop_run(struct loop *loop);  /* on this thread, until loop_stop() */
void loop_stop(struct loop *loop); /* on the loop's thread */
void loop_turn(struct loop *loop, int timeout_ms); /* one iteration of loop_run(); -1: wait */
uint64_t loop_turns(const struct loop *loop); /* iterations; its thread, or after loop_join() */

/* On the loop's thread, or before it has one. No ready() call follows loop_remove(). */
void loop_add(struct loop *loop, struct watch *watch);
void loop_remove(struct loop *loop, struct watch *watch);
void loop_set_poller(struct loop *loop, struct poller *poller); /* at most one; NULL removes it */

bool loop_is_current(const struct loop *loop); /* is the caller on its thread? */

/*
 * Runs fn(arg) on the loop's thread and returns when fn has. Any thread, the loop's own included.
 * Two loops must not call each other: that would deadlock.
 */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/*
 * The same, but returns false, without a call of fn, if fn has not begun when clock_now_ns()
 * reaches `deadline_ns`: the loop may be blocked in a system call. Waits for fn once it has begun.
 */
bool loop_call_by(struct loop *loop, void (*fn)(void *arg), void *arg, uint64_t deadline_ns);

/*
 * A loop whose callbacks may block, because they use files on the host. It gets several threads, as
 * in crew.h, one of which runs its callbacks at any time. `taken_over` is called on a thread that
 * has become the leader: callbacks that are blocked will not see what they still had to do. Before
 * loop_start(); 0 or -ENOMEM.
 */
int loop_allow_blocking(struct loop *loop, void (*taken_over)(void *owner), void *owner);

/*
 * In a callback, before and after a system call that may block. Other callbacks may run in between.
 * Nothing happens without loop_allow_blocking().
 */
void loop_release(struct loop *loop);
void loop_acquire(struct loop *loop);

bool loop_is_stopping(const struct loop *loop); /* after loop_stop(); in a callback */

/* After loop_acquire(): has another thread taken over the loop? The callback then soon returns. */
bool loop_was_replaced(const struct loop *loop);

/*
 * In a callback of a started loop that may block: waits until another callback signals `cond`, made
 * by clock_cond_init(). False at `deadline_ns`; UINT64_MAX: no limit.
 */
bool loop_wait(struct loop *loop, pthread_cond_t *cond, uint64_t deadline_ns);

#endif
