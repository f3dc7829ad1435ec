/* SPDX-License-Identifier: MIT */
#include "vmm/core/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/clock.h"
#include "vmm/core/crew.h"

#define NEVER_NS UINT64_MAX

/* A pending loop_call(). Lives on the caller's stack. */
struct loop_request {
    void (*fn)(void *arg);
    void *arg;
    bool begun, done; /* protected by the mutex */
    struct loop_request *next;
};

struct loop {
    struct poll_set set;
    struct watch *watches;
    struct watch **polled; /* the watch of set.fds[i], or NULL once removed */
    unsigned polled_capacity;
    struct poller *poller;
    uint64_t turns;
    bool stop;

    struct watch wake; /* eventfd: `calls` has a new entry */
    pthread_mutex_t mutex;
    pthread_cond_t done;
    struct loop_request *calls; /* not yet begun, oldest first */
    pthread_t owner;            /* if there is no crew */
    struct crew *crew;          /* or NULL: no callback may block */
    void (*taken_over)(void *owner);
    void *taken_over_owner;
    const char *name; /* of the thread */
    bool threaded;
};

static bool loop_has_crew(const struct loop *loop)
{
    return loop->crew && loop->threaded;
}

int poll_set_add(struct poll_set *set, int fd, short events)
{
    if (set->count == set->capacity) {
        unsigned capacity = set->capacity ? 2 * set->capacity : 16;
        struct pollfd *fds = realloc(set->fds, capacity * sizeof(*fds));

        if (!fds)
            return -ENOMEM;
        set->fds = fds;
        set->capacity = capacity;
    }
    set->fds[set->count] = (struct pollfd){ .fd = fd, .events = events };
    return (int)set->count++;
}

/* Removes the oldest pending call from the list. NULL: none. */
static struct loop_request *loop_take_call(struct loop *loop)
{
    struct loop_request *call;

    LOCK_SCOPE(&loop->mutex);
    call = loop->calls;
    if (call) {
        loop->calls = call->next;
        call->begun = true;
    }
    return call;
}

static void loop_finish_call(struct loop *loop, struct loop_request *call)
{
    LOCK_SCOPE(&loop->mutex);
    call->done = true; /* from here on `call`, on the caller's stack, may be gone */
    pthread_cond_broadcast(&loop->done);
}

/* False on a thread that was replaced while it was blocked: it must leave the loop alone. */
static bool loop_leads(const struct loop *loop)
{
    return !loop_has_crew(loop) || crew_is_leader(loop->crew);
}

static void loop_wake(struct loop *loop)
{
    uint64_t one = 1;

    if (write(loop->wake.fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

static void loop_wake_ready(struct watch *watch, short revents)
{
    struct loop *loop = container_of(watch, struct loop, wake);
    struct loop_request *call;
    uint64_t count;

    if (read(watch->fd, &count, sizeof(count)) < 0)
        assert(errno == EAGAIN);

    while (loop_leads(loop) && (call = loop_take_call(loop))) {
        call->fn(call->arg);
        loop_finish_call(loop, call);
    }
}

struct loop *loop_create(void)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return NULL;
    loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake.fd < 0) {
        free(loop);
        return NULL;
    }
    loop->wake.events = POLLIN;
    loop->wake.ready = loop_wake_ready;
    loop->owner = pthread_self();
    pthread_mutex_init(&loop->mutex, NULL);
    clock_cond_init(&loop->done);
    loop_add(loop, &loop->wake);
    return loop;
}

static void loop_stop_call(void *arg)
{
    loop_stop(arg);
}

void loop_join(struct loop *loop)
{
    if (!loop->threaded)
        return;
    loop_call(loop, loop_stop_call, loop);
    if (loop->crew)
        crew_join(loop->crew);
    else
        pthread_join(loop->owner, NULL);
    loop->owner = pthread_self();
    loop->threaded = false;
    loop->stop = false;
}

void loop_destroy(struct loop *loop)
{
    if (!loop)
        return;
    loop_join(loop);
    crew_destroy(loop->crew);
    close(loop->wake.fd);
    pthread_mutex_destroy(&loop->mutex);
    pthread_cond_destroy(&loop->done);
    free(loop->set.fds);
    free(loop->polled);
    free(loop);
}

static void *loop_thread(void *arg)
{
    struct loop *loop = arg;

    pthread_mutex_lock(&loop->mutex); /* until loop_start() has written `owner` */
    pthread_mutex_unlock(&loop->mutex);
    pthread_setname_np(pthread_self(), loop->name);
    loop_run(loop);
    return NULL;
}

static int loop_start_crew(struct loop *loop, const char *name)
{
    int error;

    loop->threaded = true;
    error = crew_start(loop->crew, name);
    if (error)
        loop->threaded = false;
    return error;
}

int loop_start(struct loop *loop, const char *name)
{
    int error;

    if (loop->crew)
        return loop_start_crew(loop, name);
    LOCK_SCOPE(&loop->mutex);
    loop->name = name;
    error = pthread_create(&loop->owner, NULL, loop_thread, loop);
    if (error) {
        loop->owner = pthread_self();
        return -error;
    }
    loop->threaded = true;
    return 0;
}

/* Fills `set`: the watches, *ret_watches of them, then the poller's. False: out of memory. */
static bool loop_prepare(struct loop *loop, uint32_t *timeout_ms, unsigned *ret_watches)
{
    loop->set.count = 0;
    for (struct watch *watch = loop->watches; watch; watch = watch->next)
        if (poll_set_add(&loop->set, watch->fd, watch->events) < 0)
            return false;

    if (loop->set.count > loop->polled_capacity) {
        struct watch **polled = calloc(loop->set.capacity, sizeof(struct watch *));

        if (!polled)
            return false;
        free(loop->polled);
        loop->polled = polled;
        loop->polled_capacity = loop->set.capacity;
    }
    for (struct watch *watch = loop->watches, **slot = loop->polled; watch; watch = watch->next)
        *slot++ = watch;
    *ret_watches = loop->set.count;

    if (loop->poller)
        loop->poller->prepare(loop->poller, &loop->set, timeout_ms);
    return true;
}

static int loop_poll(struct loop *loop, int timeout_ms)
{
    int ready;

    if (!loop_has_crew(loop))
        return poll(loop->set.fds, loop->set.count, timeout_ms);
    crew_release_idle(loop->crew);
    ready = poll(loop->set.fds, loop->set.count, timeout_ms);
    crew_acquire(loop->crew);
    return ready;
}

void loop_turn(struct loop *loop, int timeout_ms)
{
    uint32_t wait_ms = timeout_ms < 0 ? UINT32_MAX : (uint32_t)timeout_ms;
    struct poller *poller = loop->poller; /* dispatch() only after its own prepare() */
    unsigned watches;
    int ready;

    loop->turns++;
    if (!loop_prepare(loop, &wait_ms, &watches)) {
        poll(NULL, 0, 10); /* out of memory: retry rather than end a running guest */
        return;
    }
    ready = loop_poll(loop, wait_ms > INT32_MAX ? -1 : (int)wait_ms);
    if (ready < 0)
        return; /* EINTR: revents are not valid */

    for (unsigned i = 0; ready > 0 && i < watches && loop_leads(loop); i++)
        if (loop->polled[i] && loop->set.fds[i].revents)
            loop->polled[i]->ready(loop->polled[i], loop->set.fds[i].revents);
    if (poller && loop->poller == poller && loop_leads(loop))
        poller->dispatch(poller, &loop->set);
}

uint64_t loop_turns(const struct loop *loop)
{
    return loop->turns;
}

void loop_run(struct loop *loop)
{
    while (!loop->stop)
        loop_turn(loop, -1);
}

void loop_stop(struct loop *loop)
{
    loop->stop = true;
    if (loop_has_crew(loop))
        crew_end(loop->crew);
}

void loop_add(struct loop *loop, struct watch *watch)
{
    watch->next = loop->watches;
    loop->watches = watch;
    if (!loop_leads(loop))
        loop_wake(loop); /* the leader polls without it */
}

void loop_remove(struct loop *loop, struct watch *watch)
{
    for (struct watch **link = &loop->watches; *link; link = &(*link)->next)
        if (*link == watch) {
            *link = watch->next;
            break;
        }
    for (unsigned i = 0; i < loop->polled_capacity; i++)
        if (loop->polled[i] == watch)
            loop->polled[i] = NULL;
}

void loop_set_poller(struct loop *loop, struct poller *poller)
{
    assert(!poller || !loop->poller);
    loop->poller = poller;
}

bool loop_is_current(const struct loop *loop)
{
    if (loop_has_crew(loop))
        return crew_is_current(loop->crew);
    return pthread_equal(loop->owner, pthread_self());
}

/* With the mutex held. If the deadline passes before the call begins, removes it: false. */
static bool loop_await_call(struct loop *loop, struct loop_request *call, uint64_t deadline_ns)
{
    const struct timespec deadline = clock_timespec(deadline_ns);

    while (!call->begun)
        if (pthread_cond_timedwait(&loop->done, &loop->mutex, &deadline) == ETIMEDOUT)
            break;
    if (!call->begun) {
        struct loop_request **link = &loop->calls;

        while (*link != call)
            link = &(*link)->next;
        *link = call->next;
        return false;
    }
    while (!call->done)
        pthread_cond_wait(&loop->done, &loop->mutex);
    return true;
}

bool loop_call_by(struct loop *loop, void (*fn)(void *arg), void *arg, uint64_t deadline_ns)
{
    struct loop_request call = { .fn = fn, .arg = arg }, **link;

    if (loop_is_current(loop)) {
        fn(arg);
        return true;
    }

    LOCK_SCOPE(&loop->mutex);
    for (link = &loop->calls; *link;)
        link = &(*link)->next;
    *link = &call;
    loop_wake(loop);
    return loop_await_call(loop, &call, deadline_ns);
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    loop_call_by(loop, fn, arg, NEVER_NS);
}

/* Callbacks that may block. */

static void loop_crew_turn(void *owner)
{
    loop_turn(owner, -1);
}

static void loop_crew_taken_over(void *owner)
{
    struct loop *loop = owner;

    loop_wake(loop); /* the former leader may have read the eventfd, and left calls behind */
    loop->taken_over(loop->taken_over_owner);
}

static const struct crew_ops loop_crew_ops = {
    .turn = loop_crew_turn,
    .taken_over = loop_crew_taken_over,
};

int loop_allow_blocking(struct loop *loop, void (*taken_over)(void *owner), void *owner)
{
    if (!loop->crew)
        loop->crew = crew_create(&loop_crew_ops, loop);
    loop->taken_over = taken_over;
    loop->taken_over_owner = owner;
    return loop->crew ? 0 : -ENOMEM;
}

void loop_release(struct loop *loop)
{
    if (loop_has_crew(loop))
        crew_release(loop->crew);
}

void loop_acquire(struct loop *loop)
{
    if (loop_has_crew(loop))
        crew_acquire(loop->crew);
}

bool loop_is_stopping(const struct loop *loop)
{
    return loop->stop;
}

bool loop_was_replaced(const struct loop *loop)
{
    return !loop_leads(loop);
}

bool loop_wait(struct loop *loop, pthread_cond_t *cond, uint64_t deadline_ns)
{
    return crew_wait(loop->crew, cond, deadline_ns);
}
