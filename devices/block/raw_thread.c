/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/block/raw.h"
#include "vmm/base.h"
#include "vmm/cleanup.h"

/*
 * One worker per disk does the I/O with blocking system calls; what it has done it hands back to
 * the loop. For hosts that forbid io_uring.
 */
#define WORKER_STACK (1u << 20) /* bytes of address space */

struct request_list {
    struct block_request *first, **end;
};

struct raw_thread {
    struct raw raw;
    struct watch watch; /* an eventfd: something is done */
    unsigned in_flight; /* submitted and not yet done(); the loop's */
    pthread_t thread;

    pthread_mutex_t mutex;
    pthread_cond_t work, idle;
    struct request_list todo, done; /* under the mutex */
    bool stop;                      /* under the mutex */
};

static void list_init(struct request_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_append(struct request_list *list, struct block_request *request)
{
    request->next = NULL;
    *list->end = request;
    list->end = &request->next;
}

static struct block_request *list_take(struct request_list *list)
{
    struct block_request *request = list->first;

    if (request) {
        list->first = request->next;
        if (!list->first)
            list->end = &list->first;
    }
    return request;
}

/* The next request, or NULL when the disk closes. */
static struct block_request *raw_thread_wait(struct raw_thread *t)
{
    LOCK_SCOPE(&t->mutex);
    while (!t->todo.first && !t->stop)
        pthread_cond_wait(&t->work, &t->mutex);
    return list_take(&t->todo);
}

static void raw_thread_hand_back(struct raw_thread *t, struct block_request *request)
{
    bool first;

    {
        LOCK_SCOPE(&t->mutex);
        first = !t->done.first;
        list_append(&t->done, request);
        pthread_cond_signal(&t->idle);
    }
    if (first && write(t->watch.fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
        abort(); /* an eventfd takes it, unless it was closed under us */
}

static void *raw_thread_run(void *arg)
{
    struct raw_thread *t = arg;
    struct block_request *request;

    while ((request = raw_thread_wait(t))) {
        request->error = raw_perform(&t->raw, request);
        raw_thread_hand_back(t, request);
    }
    return NULL;
}

static void raw_thread_submit(struct block *block, struct block_request *request)
{
    struct raw_thread *t = container_of(block, struct raw_thread, raw.block);

    t->in_flight++;
    LOCK_SCOPE(&t->mutex);
    list_append(&t->todo, request);
}

static void raw_thread_commit(struct block *block)
{
    struct raw_thread *t = container_of(block, struct raw_thread, raw.block);

    if (t->in_flight == 0)
        return;
    LOCK_SCOPE(&t->mutex);
    pthread_cond_signal(&t->work);
}

/* Completes what the worker has handed back. */
static void raw_thread_reap(struct raw_thread *t)
{
    struct block_request *request, *next;

    {
        LOCK_SCOPE(&t->mutex);
        request = t->done.first;
        list_init(&t->done);
    }
    if (!request)
        return;
    for (; request; request = next) {
        next = request->next;
        t->in_flight--;
        t->raw.block.calls++;
        request->done(request, request->error);
    }
    t->raw.block.completed(t->raw.block.owner);
}

static void raw_thread_ready(struct watch *watch, short revents)
{
    struct raw_thread *t = container_of(watch, struct raw_thread, watch);
    uint64_t count;

    t->raw.block.calls += 2; /* and the worker's, which woke us */
    if (read(watch->fd, &count, sizeof(count)) == sizeof(count))
        raw_thread_reap(t);
}

static void raw_thread_drain(struct block *block)
{
    struct raw_thread *t = container_of(block, struct raw_thread, raw.block);

    raw_thread_commit(block);
    while (t->in_flight > 0) {
        pthread_mutex_lock(&t->mutex);
        while (!t->done.first)
            pthread_cond_wait(&t->idle, &t->mutex);
        pthread_mutex_unlock(&t->mutex);
        raw_thread_reap(t);
    }
}

static void raw_thread_close(struct block *block)
{
    struct raw_thread *t = container_of(block, struct raw_thread, raw.block);

    raw_thread_drain(block);
    loop_remove(t->raw.loop, &t->watch);
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);

    close(t->watch.fd);
    close(t->raw.fd);
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->work);
    pthread_cond_destroy(&t->idle);
    free(t);
}

static const struct block_ops raw_thread_ops = {
    .submit = raw_thread_submit,
    .commit = raw_thread_commit,
    .drain = raw_thread_drain,
    .close = raw_thread_close,
};

int raw_thread_create(struct block **ret, const struct raw *raw)
{
    struct raw_thread *t = calloc(1, sizeof(*t));
    pthread_attr_t attr;
    int error;

    if (!t)
        return -ENOMEM;
    t->raw = *raw;
    t->raw.block.ops = &raw_thread_ops;
    t->watch = (struct watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                               .events = POLLIN,
                               .ready = raw_thread_ready };
    list_init(&t->todo);
    list_init(&t->done);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->idle, NULL);

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WORKER_STACK);
    error = t->watch.fd < 0 ? errno : pthread_create(&t->thread, &attr, raw_thread_run, t);
    pthread_attr_destroy(&attr);
    if (error) {
        if (t->watch.fd >= 0)
            close(t->watch.fd);
        free(t);
        return -error;
    }
    loop_add(t->raw.loop, &t->watch);
    *ret = &t->raw.block;
    return 0;
}
