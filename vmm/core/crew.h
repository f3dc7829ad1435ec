/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_CREW_H
#define VMM_CORE_CREW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Threads that run one loop by turns, so that it goes on while one of them is blocked in a system
 * call. Only the *current* thread runs, the others wait for it; so what belongs to the loop needs
 * no locks. Two threads have a role:
 *
 *   leader   runs the loop. Before a call that may block it releases the crew, afterwards it
 *            acquires it again.
 *   deputy   looks at the leader every few milliseconds. If a call blocks that long, the deputy
 *            becomes the leader. It sleeps while the leader has nothing to do.
 *
 * The former leader finishes its callback when its call returns, and then rests until another
 * deputy is needed. Threads are created when needed, by the leader: they inherit its restrictions.
 *
 * A callback must expect that others ran between crew_release() and crew_acquire().
 */
struct crew;

#define CREW_MAX 32u /* threads, blocked ones included */

struct crew_ops {
    void (*turn)(void *owner);       /* on the leader: one turn of the loop */
    void (*taken_over)(void *owner); /* on the new leader, while the former one is still blocked */
};

/* NULL: out of memory. */
struct crew *crew_create(const struct crew_ops *ops, void *owner);
void crew_destroy(struct crew *crew); /* after crew_join(), or without crew_start(); accepts NULL */

int crew_start(struct crew *crew, const char *name); /* creates the first leader; 0 or -errno */
void crew_end(struct crew *crew);  /* on the current thread: all threads end after their turn */
void crew_join(struct crew *crew); /* waits until they have ended */

bool crew_is_current(const struct crew *crew); /* is the caller the current thread? Any thread */
bool crew_is_leader(const struct crew *crew);  /* on the current thread */

/* By the current thread, around a call that may block. */
void crew_release(struct crew *crew);
void crew_acquire(struct crew *crew);

/* The same around the leader's wait for events: no reason to replace it. */
void crew_release_idle(struct crew *crew);

/* pthread_cond_timedwait() by the current thread; false at `deadline_ns`. UINT64_MAX: no limit. */
bool crew_wait(struct crew *crew, pthread_cond_t *cond, uint64_t deadline_ns);

#endif
