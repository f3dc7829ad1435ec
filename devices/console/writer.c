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

#define WRITER_SIZE  (64 * KIB)
#define WRITER_SLACK (4 * KIB) /* more, for those who wait when it is paused */
#define WRITER_RING  (WRITER_SIZE + WRITER_SLACK)
#define WRITER_CHUNK                                                             \
    (32 * KIB) /* bytes a write(): one half is filled while the other is written \
                */

/* After silence, so long the thread lets a few bytes gather: a guest may write them one by one. */
#define WRITER_GATHER_MS 1
#define WRITER_FEW       (4 * KIB)

/*
 * Shared with the thread, which may be stuck in write() when the owner has long gone: freed by
 * whoever lets go last.
 */
struct writer {
    int fd;
    int room_fd;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint8_t *ring; /* [start, start + count) modulo its size is to be written */
    size_t start, count;
    size_t limit;           /* of count, for what is taken */
    uint64_t bytes, writes; /* so far: taken, and calls made */
    unsigned owners;
    bool running; /* there is a thread */
    bool idle;    /* it waits for the first byte */
    bool spoke;   /* since the last silence */
    bool watched; /* somebody is to be told by `room_fd` when */
    size_t level; /* count has come down to this */
    bool abandoned;
    bool closing;                                             /* write what is left, then end */
    bool broken;                                              /* drop everything */
    int failed;                                               /* because write() did: errno */
    bool quiet;                                               /* EPIPE is no error */
    enum { WRITER_OPEN, WRITER_ENDS, WRITER_SHUTS_DOWN } end; /* what follows the last byte */
};

static void writer_release(struct writer *writer)
{
    bool last;

    pthread_mutex_lock(&writer->mutex);
    last = --writer->owners == 0;
    pthread_mutex_unlock(&writer->mutex);
    if (!last)
        return;

    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->room_fd >= 0)
        close(writer->room_fd);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->mutex);
    free(writer->ring);
    free(writer);
}

int writer_create(struct writer **ret, int fd, bool quiet)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    pthread_condattr_t monotonic;
    int error = 0;

    if (!writer)
        return -ENOMEM;
    writer->owners = 1;
    writer->quiet = quiet;
    writer->limit = WRITER_SIZE;
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    writer->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (writer->fd < 0 && errno != EBADF)
        error = -errno;
    writer->broken = writer->fd < 0;
    writer->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (writer->room_fd < 0)
        error = -errno;
    if (error < 0)
        writer_release(writer);
    else
        *ret = writer;
    return error;
}

int writer_room_fd(const struct writer *writer)
{
    return writer->room_fd;
}

/* With the mutex held: asks to be told when `count` has come down to `level`. */
static void writer_watch(struct writer *writer, size_t level)
{
    if (!writer->watched || writer->level < level)
        writer->level = level;
    writer->watched = true;
}

/* With the mutex held: there is more room, or no need of it. */
static void writer_has_room(struct writer *writer)
{
    uint64_t one = 1;

    pthread_cond_broadcast(&writer->changed);
    if (!writer->watched || (writer->count > writer->level && !writer->abandoned))
        return;
    writer->watched = false;
    if (write(writer->room_fd, &one, sizeof(one)) < 0)
        return; /* full: signalled already */
}

/* How many bytes were written, 0 if that must be tried again, or -errno. */
static ssize_t writer_write_chunk(const struct writer *writer, size_t start, size_t count)
{
    ssize_t written = write(writer->fd, writer->ring + start, count);
    struct pollfd room = { .fd = writer->fd, .events = POLLOUT };

    if (written >= 0)
        return written;
    if (errno == EAGAIN) /* somebody we share it with made it non-blocking */
        poll(&room, 1, -1);
    else if (errno == EPIPE && writer->quiet)
        return -EPIPE;
    else if (errno != EINTR)
        return log_error(errno, "console output");
    return 0;
}

/* With the mutex held, which write() does without. */
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
        writer_watch(writer, 0);
    } else {
        writer->start = (start + (size_t)written) % WRITER_RING;
        writer->count -= (size_t)written;
    }
    writer_has_room(writer);
}

/* With the mutex held. */
static void writer_wait_for_bytes(struct writer *writer)
{
    writer->idle = true;
    writer->spoke = false;
    pthread_cond_wait(&writer->changed, &writer->mutex);
    writer->idle = false;
    if (writer->closing || writer->count >= WRITER_FEW)
        return;
    pthread_mutex_unlock(&writer->mutex);
    poll(NULL, 0, WRITER_GATHER_MS);
    pthread_mutex_lock(&writer->mutex);
}

/* With the mutex held, when nothing is left to write: lets the reader see it. */
static void writer_let_go(struct writer *writer)
{
    if (writer->end == WRITER_OPEN || writer->fd < 0)
        return;
    if (writer->end == WRITER_SHUTS_DOWN)
        shutdown(writer->fd, SHUT_WR); /* fails on all but sockets */
    close(writer->fd);
    writer->fd = -1;
    writer->broken = true;
}

static void *writer_thread(void *arg)
{
    struct writer *writer = arg;

    pthread_mutex_lock(&writer->mutex);
    while (!writer->broken && (writer->count > 0 || !writer->closing)) {
        if (writer->count > 0)
            writer_write_some(writer);
        else
            writer_wait_for_bytes(writer);
    }
    writer->running = false;
    writer_let_go(writer);
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->mutex);
    writer_release(writer);
    return NULL;
}

/* Signals are for other threads, but for those a thread brings upon itself. */
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
    if (error)
        return error;
    pthread_setname_np(thread, "console");
    pthread_detach(thread);
    return 0;
}

/* With the mutex held, at the first byte. */
static void writer_start(struct writer *writer)
{
    int error = ENOMEM;

    writer->ring = malloc(WRITER_RING);
    if (writer->ring)
        error = writer_start_thread(writer);
    if (error) {
        log_error(error, "console output");
        writer->broken = true;
        return;
    }
    writer->running = true;
    writer->owners++;
}

/*
 * With the mutex held: after silence, writes at once what can be written without waiting, so that a
 * short answer needs no thread. Pipes can say so, since Linux 6.4; others give an error.
 */
static size_t writer_write_now(struct writer *writer, const uint8_t *bytes, size_t count)
{
    struct iovec piece = { (void *)(uintptr_t)bytes, count };
    ssize_t written;

    if (writer->spoke || writer->count > 0 || (writer->running && !writer->idle))
        return 0;
    writer->spoke = true;
    written = pwritev2(writer->fd, &piece, 1, -1, RWF_NOWAIT);
    if (written < 0)
        return 0;
    writer->writes++;
    writer->bytes += (size_t)written;
    return (size_t)written;
}

/* With the mutex held: puts what fits into the buffer, or drops all of it where that is due. */
static size_t writer_put(struct writer *writer, const uint8_t *bytes, size_t count)
{
    size_t room = writer->count < writer->limit ? writer->limit - writer->count : 0;
    size_t at, until_wrap;

    if (!writer->running)
        writer_start(writer);
    if (writer->broken)
        return count;

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
    return count;
}

/* With the mutex held: takes what fits, or all of it where it is dropped. */
static size_t writer_take(struct writer *writer, const uint8_t *bytes, size_t count)
{
    size_t written;

    if (writer->broken || writer->end != WRITER_OPEN)
        return count;
    written = writer_write_now(writer, bytes, count);
    if (written == count)
        return count;
    return written + writer_put(writer, bytes + written, count - written);
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
        writer_watch(writer, WRITER_SIZE / 2);
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

size_t writer_waiting(struct writer *writer)
{
    LOCK_SCOPE(&writer->mutex);
    if (writer->count == 0 || writer->abandoned)
        return 0;
    writer_watch(writer, WRITER_RING);
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
    writer->end = shut_down ? WRITER_SHUTS_DOWN : WRITER_ENDS;
    if (writer->running)
        pthread_cond_broadcast(&writer->changed);
    else
        writer_let_go(writer);
}

void writer_abandon(struct writer *writer)
{
    LOCK_SCOPE(&writer->mutex);
    writer->abandoned = true;
    writer_has_room(writer);
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

/* With the mutex held. */
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

    pthread_mutex_lock(&writer->mutex);
    writer->closing = true;
    pthread_cond_broadcast(&writer->changed);
    while (writer->running && !writer->broken && writer->count < before) {
        before = writer->abandoned ? 0 : writer->count;
        writer_wait_for_end(writer, linger_ms);
    }
    writer->broken = true; /* a thread still stuck ends with what it is writing */
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
