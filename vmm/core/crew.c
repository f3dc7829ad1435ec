/* SPDX-License-Identifier: MIT */
#include "vmm/core/crew.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/core/clock.h"

#define TICK_NS     5000000u /* a call that takes one to two ticks costs the leader its role */
#define RETRY_CALLS 1000u
#define IDLE_TICKS  8u /* after so many without a call the deputy sleeps */

struct crew {
    const struct crew_ops *ops;
    void *owner;

    pthread_mutex_t mutex; /* held by the current thread; protects all below */
    pthread_t current;     /* also read by other threads; 0: none */
    pthread_t leader;
    pthread_cond_t watch; /* for the sleeping deputy: the leader is active again */
    pthread_cond_t rest;  /* for threads without a role: a deputy is needed */
    uint64_t calls;       /* by the leader, since the start */
    bool calling;         /* the leader is in such a call */
    bool deputized, deputy_called, deputy_sleeps;
    uint64_t retry; /* number of calls before which no thread is created, as the last try failed */
    bool ending;
    unsigned resting, count;
    pthread_t threads[CREW_MAX];
    const char *name;
};

static void crew_set_current(struct crew *crew, pthread_t thread)
{
    __atomic_store_n(&crew->current, thread, __ATOMIC_RELAXED);
}

bool crew_is_current(const struct crew *crew)
{
    return pthread_equal(__atomic_load_n(&crew->current, __ATOMIC_RELAXED), pthread_self());
}

bool crew_is_leader(const struct crew *crew)
{
    return pthread_equal(crew->leader, pthread_self());
}

static void crew_lock(struct crew *crew)
{
    pthread_mutex_lock(&crew->mutex);
    crew_set_current(crew, pthread_self());
}

static void crew_unlock(struct crew *crew)
{
    crew_set_current(crew, (pthread_t)0);
    pthread_mutex_unlock(&crew->mutex);
}

bool crew_wait(struct crew *crew, pthread_cond_t *cond, uint64_t deadline_ns)
{
    const struct timespec deadline = clock_timespec(deadline_ns);
    int error;

    crew_set_current(crew, (pthread_t)0);
    error = deadline_ns == UINT64_MAX ? pthread_cond_wait(cond, &crew->mutex)
                                      : pthread_cond_timedwait(cond, &crew->mutex, &deadline);
    crew_set_current(crew, pthread_self());
    return error != ETIMEDOUT;
}

static void *crew_thread(void *arg);

static int crew_add_thread(struct crew *crew)
{
    int error = pthread_create(&crew->threads[crew->count], NULL, crew_thread, crew);

    if (!error)
        crew->count++;
    else
        crew->retry = crew->calls + RETRY_CALLS;
    return -error;
}

/* If there is no thread for it, the next former leader becomes the deputy. */
static void crew_call_deputy(struct crew *crew)
{
    if (crew->resting > 0)
        pthread_cond_signal(&crew->rest);
    else if (crew->count == CREW_MAX || crew->calls < crew->retry || crew_add_thread(crew))
        return;
    crew->deputy_called = true;
}

void crew_release(struct crew *crew)
{
    if (crew_is_leader(crew)) {
        crew->calls++;
        crew->calling = true;
        if (!crew->deputized && !crew->deputy_called)
            crew_call_deputy(crew);
        else if (crew->deputy_sleeps)
            pthread_cond_signal(&crew->watch);
    }
    crew_unlock(crew);
}

void crew_release_idle(struct crew *crew)
{
    crew_unlock(crew);
}

void crew_acquire(struct crew *crew)
{
    crew_lock(crew);
    if (crew_is_leader(crew))
        crew->calling = false;
}

static void crew_take_over(struct crew *crew)
{
    crew->leader = pthread_self();
    crew->calling = false;
    crew->deputized = false;
    crew_call_deputy(crew);
    crew->ops->taken_over(crew->owner);
}

static void crew_sleep(struct crew *crew)
{
    crew->deputy_sleeps = true;
    crew_wait(crew, &crew->watch, UINT64_MAX);
    crew->deputy_sleeps = false;
}

/* As the deputy, until the leader is blocked or the crew ends. */
static void crew_watch(struct crew *crew)
{
    unsigned idle = 0;

    crew->deputized = true;
    crew->deputy_called = false;
    while (!crew->ending) {
        uint64_t calls = crew->calls;
        bool calling = crew->calling;

        crew_wait(crew, &crew->watch, clock_now_ns() + TICK_NS);
        if (crew->ending)
            return;
        if (calling && crew->calling && crew->calls == calls) {
            crew_take_over(crew);
            return;
        }
        idle = crew->calls == calls && !crew->calling ? idle + 1 : 0;
        if (idle < IDLE_TICKS)
            continue;
        crew_sleep(crew);
        idle = 0;
    }
}

static void crew_rest(struct crew *crew)
{
    crew->resting++;
    crew_wait(crew, &crew->rest, UINT64_MAX);
    crew->resting--;
}

static void *crew_thread(void *arg)
{
    struct crew *crew = arg;

    crew_lock(crew);
    pthread_setname_np(pthread_self(), crew->name);
    while (!crew->ending)
        if (crew_is_leader(crew))
            crew->ops->turn(crew->owner);
        else if (!crew->deputized)
            crew_watch(crew);
        else
            crew_rest(crew);
    crew_unlock(crew);
    return NULL;
}

int crew_start(struct crew *crew, const char *name)
{
    int error;

    pthread_mutex_lock(&crew->mutex);
    error = crew_add_thread(crew);
    crew->leader = crew->threads[0];
    crew->name = name;
    pthread_mutex_unlock(&crew->mutex);
    return error;
}

void crew_end(struct crew *crew)
{
    crew->ending = true;
    pthread_cond_broadcast(&crew->watch);
    pthread_cond_broadcast(&crew->rest);
}

void crew_join(struct crew *crew)
{
    unsigned joined = 0;
    bool more;

    do {
        pthread_join(crew->threads[joined++], NULL); /* the first may create others until it ends */
        pthread_mutex_lock(&crew->mutex);
        more = joined < crew->count;
        pthread_mutex_unlock(&crew->mutex);
    } while (more);
    crew->count = 0;
    crew->ending = crew->deputized = crew->deputy_called = false;
}

struct crew *crew_create(const struct crew_ops *ops, void *owner)
{
    struct crew *crew = calloc(1, sizeof(*crew));

    if (!crew)
        return NULL;
    crew->ops = ops;
    crew->owner = owner;
    pthread_mutex_init(&crew->mutex, NULL);
    clock_cond_init(&crew->watch);
    clock_cond_init(&crew->rest);
    return crew;
}

void crew_destroy(struct crew *crew)
{
    if (!crew)
        return;
    assert(crew->count == 0);
    pthread_mutex_destroy(&crew->mutex);
    pthread_cond_destroy(&crew->watch);
    pthread_cond_destroy(&crew->rest);
    free(crew);
}
