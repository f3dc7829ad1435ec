/* SPDX-License-Identifier: MIT */
#include "devices/console/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/seccomp.h"

#define WRITER_SIZE       (64 * KIB)
#define WRITER_PAUSE_ROOM (4 * KIB) /* extra room while paused */
#define WRITER_RING       (WRITER_SIZE + WRITER_PAUSE_ROOM)
#define WRITER_CHUNK      (32 * KIB) /* per write(), so that one half is filled meanwhile */

/* An idle thread waits for more than a few bytes before it writes: guests may write them singly. */
#define WRITER_GATHER_MS  1
#define WRITER_GATHER_MIN (4 * KIB)

/*
 * Reference-counted, because the thread may still be blocked in write() after writer_destroy().
 */
struct writer {
    int fd;
    int event_fd;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint8_t *ring; /* of WRITER_RING bytes; [start, start + count) modulo that is queued */
    size_t start, count;
    size_t limit;           /* of count: nothing is queued above it */
    uint64_t bytes, writes; /* accepted; write() calls */
    uint64_t left;          /* of writer_set_max(); UINT64_MAX: no limit */
    bool told_max;          /* that it is reached */
    unsigned references;
    bool running;        /* the thread exists */
    bool idle;           /* the thread waits for bytes */
    bool active;         /* there was output since the thread last went idle */
    bool notify;         /* signal event_fd when */
    size_t notify_level; /* count has fallen to this */
    bool abandoned;
    bool closing; /* the thread ends when the ring is empty */
    bool broken;  /* drop all output */
    int failed;   /* errno of write() */
    bool ignore_epipe;
    enum { WRITER_KEEP_OPEN, WRITER_CLOSE, WRITER_SHUT_DOWN } end; /* when the thread ends */
};

static void writer_release(struct writer *writer)
{
    bool last;

    pthread_mutex_lock(&writer->mutex);
    last = --writer->references == 0;
    pthread_mutex_unlock(&writer->mutex);
    if (!last)
        return;

    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->event_fd >= 0)
        close(writer->event_fd);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->mutex);
    free(writer->ring);
    free(writer);
}

int writer_create(struct writer **ret, int fd, bool ignore_epipe)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    pthread_condattr_t monotonic;
    int error = 0;

    if (!writer)
        return -ENOMEM;
    writer->references = 1;
    writer->ignore_epipe = ignore_epipe;
    writer->limit = WRITER_SIZE;
    writer->left = UINT64_MAX;
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    writer->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (writer->fd < 0 && errno != EBADF)
        error = -errno;
    writer->broken = writer->fd < 0;
    writer->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (writer->event_fd < 0)
        error = -errno;
    writer->ring = malloc(WRITER_RING);
    if (!writer->ring)
        error = -ENOMEM;
    if (error < 0)
        writer_release(writer);
    else
        *ret = writer;
    return error;
}

void writer_set_max(struct writer *writer, uint64_t bytes)
{
    writer->left = bytes;
}

int writer_event_fd(const struct writer *writer)
{
    return writer->event_fd;
}

/* With the mutex held: event_fd is to be signalled when `count` falls to `level`. */
static void writer_request_event(struct writer *writer, size_t level)
{
    if (!writer->notify || writer->notify_level < level)
        writer->notify_level = level;
    writer->notify = true;
}

/* Signals event_fd: there is room, or work for writer_serve(). */
static void writer_signal(const struct writer *writer)
{
    uint64_t one = 1;

    if (write(writer->event_fd, &one, sizeof(one)) < 0)
        return; /* full: signalled already */
}

/* With the mutex held, after `count` fell or in order to unblock: wakes all that wait for room. */
static void writer_signal_room(struct writer *writer)
{
    pthread_cond_broadcast(&writer->changed);
    if (!writer->notify || (writer->count > writer->notify_level && !writer->abandoned))
        return;
    writer->notify = false;
    writer_signal(writer);
}

/* Returns the bytes written, 0: retry, or -errno. */
static ssize_t writer_write_chunk(const struct writer *writer, size_t start, size_t count)
{
    ssize_t written = write(writer->fd, writer->ring + start, count);
    struct pollfd room = { .fd = writer->fd, .events = POLLOUT };

    if (written >= 0)
        return written;
    if (errno == EAGAIN) /* another process that shares it made it non-blocking */
        poll(&room, 1, -1);
    else if (errno == EPIPE && writer->ignore_epipe)
        return -EPIPE;
    else if (errno != EINTR)
        return log_error(errno, "console output");
    return 0;
}

/* With the mutex held, which is released during write(). */
static void writer_write_some(struct writer *writer)
{
    size_t start = writer->start;
    size_t count = writer->count;
    ssize_t written;

    if (count > WRITER_RING - start)
        count = WRITER_RING - start;
    if (count > WRITER_CHUNK)
        count = WRITER_CHUNK;

    pthread_mutex_unlock(&writer->mutex);
    written = writer_write_chunk(writer, start, count);
    pthread_mutex_lock(&writer->mutex);

    writer->writes++;
    if (written < 0) {
        writer->broken = true;
        writer->failed = (int)-written;
        writer->count = 0;
        writer_request_event(writer, 0);
    } else {
        writer->start = (start + (size_t)written) % WRITER_RING;
        writer->count -= (size_t)written;
    }
    writer_signal_room(writer);
}

/* With the mutex held: waits for the first byte, then briefly for more of them. */
static void writer_wait_for_bytes(struct writer *writer)
{
    writer->idle = true;
    writer->active = false;
    pthread_cond_wait(&writer->changed, &writer->mutex);
    writer->idle = false;
    if (writer->closing || writer->count >= WRITER_GATHER_MIN)
        return;
    pthread_mutex_unlock(&writer->mutex);
    poll(NULL, 0, WRITER_GATHER_MS);
    pthread_mutex_lock(&writer->mutex);
}

/* With the mutex held, when the ring is empty: what writer_end() requested, if it did. */
static void writer_close_fd(struct writer *writer)
{
    if (writer->end == WRITER_KEEP_OPEN || writer->fd < 0)
        return;
    if (writer->end == WRITER_SHUT_DOWN)
        shutdown(writer->fd, SHUT_WR); /* fails on all but sockets */
    close(writer->fd);
    writer->fd = -1;
    writer->broken = true;
}

static void *writer_thread(void *arg)
{
    struct writer *writer = arg;

    pthread_setname_np(pthread_self(), "console");
    pthread_mutex_lock(&writer->mutex);
    while (!writer->broken && (writer->count > 0 || !writer->closing)) {
        if (writer->count > 0)
            writer_write_some(writer);
        else
            writer_wait_for_bytes(writer);
    }
    writer->running = false;
    writer_close_fd(writer);
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    writer_release(writer);
    return NULL;
}

/* The thread blocks all signals but the synchronous ones. */
static int writer_start_thread(struct writer *writer)
{
    const int own[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };
    sigset_t blocked, before;
    pthread_t thread;
    int error;

    sigfillset(&blocked);
    for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    error = pthread_create(&thread, NULL, writer_thread, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_detach(thread);
    return error;
}

/* With the mutex held. */
static void writer_start(struct writer *writer)
{
    int error = writer_start_thread(writer);

    if (error) {
        log_error(error, "console output: start its thread%s", seccomp_thread_hint(error));
        writer->broken = true;
        writer->count = 0;
        pthread_cond_broadcast(&writer->changed);
        return;
    }
    writer->running = true;
    writer->references++;
}

void writer_serve(struct writer *writer)
{
    LOCK_SCOPE(&writer->mutex);
    if (!writer->running && !writer->broken && writer->count > 0)
        writer_start(writer);
}

/*
 * With the mutex held: if the thread is idle, writes what is possible without blocking, so that
 * short output needs no thread. RWF_NOWAIT works with pipes since Linux 6.4; with other files it
 * fails.
 */
static size_t writer_write_nowait(struct writer *writer, const uint8_t *bytes, size_t count)
{
    struct iovec iov = { (void *)(uintptr_t)bytes, count };
    ssize_t written;

    if (writer->active || writer->count > 0 || (writer->running && !writer->idle))
        return 0;
    writer->active = true;
    written = pwritev2(writer->fd, &iov, 1, -1, RWF_NOWAIT);
    if (written < 0)
        return 0;
    writer->writes++;
    writer->bytes += (size_t)written;
    return (size_t)written;
}

/* With the mutex held: queues and returns what fits, or drops all if the writer is broken. */
static size_t writer_enqueue(struct writer *writer, const uint8_t *bytes, size_t count)
{
    size_t room = writer->count < writer->limit ? writer->limit - writer->count : 0;
    size_t at, until_wrap;

    if (count > room)
        count = room;
    at = (writer->start + writer->count) % WRITER_RING;
    until_wrap = WRITER_RING - at < count ? WRITER_RING - at : count;
    memcpy(writer->ring + at, bytes, until_wrap);
    memcpy(writer->ring, bytes + until_wrap, count - until_wrap);
    writer->count += count;
    writer->bytes += count;
    if (writer->idle)
        pthread_cond_broadcast(&writer->changed);
    if (!writer->running)
        writer_signal(writer);
    return count;
}

/* With the mutex held: how many of `count` bytes are within the limit of all output. */
static size_t writer_within_max(struct writer *writer, size_t count)
{
    if (count <= writer->left)
        return count;
    if (!writer->told_max)
        log_warn("console output: its file has reached max=SIZE, the rest is dropped");
    writer->told_max = true;
    return (size_t)writer->left;
}

/* With the mutex held: writes, queues or drops `bytes`. Returns how many need no retry. */
static size_t writer_take(struct writer *writer, const uint8_t *bytes, size_t count)
{
    size_t wanted, taken;

    if (writer->broken || writer->end != WRITER_KEEP_OPEN)
        return count;
    wanted = writer_within_max(writer, count);
    taken = writer_write_nowait(writer, bytes, wanted);
    if (taken < wanted)
        taken += writer_enqueue(writer, bytes + taken, wanted - taken);
    if (writer->left != UINT64_MAX)
        writer->left -= taken;
    return taken == wanted ? count : taken;
}

void writer_write(struct writer *writer, const void *bytes, size_t count)
{
    const uint8_t *rest = bytes;

    LOCK_SCOPE(&writer->mutex);
    for (;;) {
        size_t taken = writer_take(writer, rest, count);

        rest += taken;
        count -= taken;
        if (count == 0 || writer->abandoned)
            return;
        pthread_cond_wait(&writer->changed, &writer->mutex);
    }
}

size_t writer_try_write(struct writer *writer, const void *bytes, size_t count)
{
    size_t taken;

    LOCK_SCOPE(&writer->mutex);
    taken = writer_take(writer, bytes, count);
    if (writer->abandoned)
        return count;
    if (taken < count)
        writer_request_event(writer, WRITER_SIZE / 2);
    return taken;
}

static void writer_set_limit(struct writer *writer, size_t limit)
{
    LOCK_SCOPE(&writer->mutex);
    writer->limit = limit;
    pthread_cond_broadcast(&writer->changed);
}

void writer_pause(struct writer *writer)
{
    writer_set_limit(writer, WRITER_RING);
}

void writer_resume(struct writer *writer)
{
    writer_set_limit(writer, WRITER_SIZE);
}

size_t writer_queued(struct writer *writer)
{
    LOCK_SCOPE(&writer->mutex);
    if (writer->count == 0 || writer->abandoned)
        return 0;
    writer_request_event(writer, WRITER_RING);
    return writer->count;
}

int writer_failed(struct writer *writer)
{
    LOCK_SCOPE(&writer->mutex);
    return writer->failed;
}

void writer_end(struct writer *writer, bool shut_down)
{
    LOCK_SCOPE(&writer->mutex);
    writer->closing = true;
    writer->end = shut_down ? WRITER_SHUT_DOWN : WRITER_CLOSE;
    if (writer->running)
        pthread_cond_broadcast(&writer->changed);
    else if (writer->count > 0)
        writer_signal(writer);
    else
        writer_close_fd(writer);
}

void writer_abandon(struct writer *writer)
{
    LOCK_SCOPE(&writer->mutex);
    writer->abandoned = true;
    writer_signal_room(writer);
}

static struct timespec writer_deadline(unsigned ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000l;
    if (t.tv_nsec >= 1000000000l) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000l;
    }
    return t;
}

/* With the mutex held: waits for the thread to end. */
static void writer_wait_for_end(struct writer *writer, unsigned ms)
{
    struct timespec deadline = writer_deadline(ms);

    while (writer->running && !writer->broken &&
           pthread_cond_timedwait(&writer->changed, &writer->mutex, &deadline) != ETIMEDOUT)
        ;
}

void writer_close(struct writer *writer, unsigned linger_ms)
{
    size_t before = SIZE_MAX;

    writer_serve(writer);
    pthread_mutex_lock(&writer->mutex);
    writer->closing = true;
    pthread_cond_broadcast(&writer->changed);
    while (writer->running && !writer->broken && writer->count < before) {
        before = writer->abandoned ? 0 : writer->count;
        writer_wait_for_end(writer, linger_ms);
    }
    writer->broken = true; /* a thread blocked in write() ends after it */
    pthread_mutex_unlock(&writer->mutex);
}

void writer_destroy(struct writer *writer, unsigned linger_ms)
{
    writer_close(writer, linger_ms);
    writer_release(writer);
}

void writer_count(struct writer *writer, uint64_t *ret_bytes, uint64_t *ret_writes)
{
    LOCK_SCOPE(&writer->mutex);
    *ret_bytes = writer->bytes;
    *ret_writes = writer->writes;
}
