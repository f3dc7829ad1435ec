/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/block/raw.h"
#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/clock.h"
#include "vmm/core/open.h"

#if HAVE_LIBURING

#include <liburing.h>

/*
 * Requests go through io_uring, with one system call per batch. Data in the page cache is copied
 * within that call; for other completions the loop polls the ring's descriptor. Requests that do
 * not fit into the ring are deferred in a list.
 *
 * A ring's operations pass by seccomp, and its entries lie in memory that all threads can write. So
 * this one accepts a disk's operations only, on the one file that is registered with it.
 */
#define RING_ENTRIES 128u

struct raw_uring {
    struct raw raw;
    struct io_uring ring;
    struct watch watch; /* the ring's descriptor: readable when there are completions */
    unsigned in_flight; /* submitted and not yet done() */
    struct block_request *deferred, **deferred_end;
};

static void raw_uring_defer(struct raw_uring *u, struct block_request *request)
{
    request->next = NULL;
    *u->deferred_end = request;
    u->deferred_end = &request->next;
}

static void raw_uring_prep(struct raw_uring *u, struct io_uring_sqe *sqe,
                           struct block_request *request)
{
    const int fd = 0; /* in the table of registered files */
    int mode = request->op == BLOCK_WRITE_ZEROES && !request->unmap ? FALLOC_FL_ZERO_RANGE
                                                                    : FALLOC_FL_PUNCH_HOLE;
    unsigned count;

    if (raw_is_compound(&u->raw, request)) {
        io_uring_prep_nop(sqe); /* raw_uring_completed() executes it, in its turn */
        return;
    }
    switch (request->op) {
    case BLOCK_READ:
        count = sg_trim(&request->data);
        io_uring_prep_readv(sqe, fd, request->data.iov, count, request->offset);
        break;
    case BLOCK_WRITE:
        count = sg_trim(&request->data);
        io_uring_prep_writev(sqe, fd, request->data.iov, count, request->offset);
        sqe->rw_flags = request->durable ? RWF_DSYNC : 0;
        break;
    case BLOCK_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case BLOCK_DISCARD:
    case BLOCK_WRITE_ZEROES:
        io_uring_prep_fallocate(sqe, fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)request->offset,
                                (off_t)request->length);
        break;
    }
}

/* Puts a request into the submission queue, leaving one entry free. False if there is no room. */
static bool raw_uring_queue(struct raw_uring *u, struct block_request *request)
{
    struct io_uring_sqe *sqe;

    if (io_uring_sq_space_left(&u->ring) <= 1)
        return false;
    sqe = io_uring_get_sqe(&u->ring);
    raw_uring_prep(u, sqe, request);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, request); /* last: io_uring_prep_*() clears it */
    return true;
}

/* Does the host's file system or its io_uring not support the operation? */
static bool raw_uring_unsupported(int result)
{
    return result == -EOPNOTSUPP || result == -EINVAL;
}

static void raw_uring_completed(struct raw_uring *u, struct block_request *request, int result)
{
    bool data = request->op == BLOCK_READ || request->op == BLOCK_WRITE;
    int error = result < 0 ? result : 0;

    if (raw_is_compound(&u->raw, request) || (!data && raw_uring_unsupported(result))) {
        error = raw_perform(&u->raw, request); /* blocks the loop, but is rare */
    } else if (data && raw_advance(request, result, &error)) {
        if (!raw_uring_queue(u, request))
            raw_uring_defer(u, request);
        return;
    }
    u->in_flight--;
    request->done(request, error);
}

/* Enters the kernel with the submission queue. If resources are short the loop tries again. */
static void raw_uring_enter(struct raw_uring *u)
{
    u->watch.events = POLLIN;
    while (io_uring_sq_ready(&u->ring) > 0) {
        int started = io_uring_submit(&u->ring);

        u->raw.block.calls++;
        if (started <= 0 && started != -EINTR) {
            u->watch.events = POLLIN | POLLOUT; /* POLLOUT: true at once, so retry next round */
            return;
        }
    }
}

/* Submits deferred requests that fit by now. */
static void raw_uring_submit_deferred(struct raw_uring *u)
{
    while (u->deferred && raw_uring_queue(u, u->deferred)) {
        u->deferred = u->deferred->next;
        if (!u->deferred)
            u->deferred_end = &u->deferred;
    }
    raw_uring_enter(u);
}

static void raw_uring_reap(struct raw_uring *u)
{
    struct io_uring_cqe *cqe;
    bool any = false;

    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct block_request *request = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&u->ring, cqe);
        raw_uring_completed(u, request, result);
        any = true;
    }
    raw_uring_submit_deferred(u);
    if (any)
        u->raw.block.completed(u->raw.block.owner);
}

static void raw_uring_commit(struct block *block)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    raw_uring_enter(u);
    raw_uring_reap(u);
}

static void raw_uring_ready(struct watch *watch, short revents)
{
    raw_uring_reap(container_of(watch, struct raw_uring, watch));
}

static void raw_uring_submit(struct block *block, struct block_request *request)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    u->in_flight++;
    if (u->deferred || !raw_uring_queue(u, request))
        raw_uring_defer(u, request);
}

/* Polls like the loop: for completions, or to submit again. False after the deadline. */
static bool raw_uring_poll(struct raw_uring *u, uint64_t deadline_ns)
{
    struct pollfd ring = { .fd = u->watch.fd, .events = u->watch.events };
    uint64_t now = clock_now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec timeout = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };

    ppoll(&ring, 1, deadline_ns == BLOCK_NO_DEADLINE ? NULL : &timeout, NULL);
    return left > 0;
}

static bool raw_uring_drain(struct block *block, uint64_t deadline_ns)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    raw_uring_commit(block);
    while (u->in_flight > 0) {
        if (!raw_uring_poll(u, deadline_ns))
            return false;
        raw_uring_reap(u);
    }
    return true;
}

static void raw_uring_close(struct block *block)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    raw_uring_drain(block, BLOCK_NO_DEADLINE);
    loop_remove(u->raw.loop, &u->watch);
    io_uring_queue_exit(&u->ring);
    close(u->raw.fd);
    free(u);
}

static const struct block_ops raw_uring_ops = {
    .submit = raw_uring_submit,
    .commit = raw_uring_commit,
    .drain = raw_uring_drain,
    .close = raw_uring_close,
    .copy = raw_copy,
    .descriptor = raw_descriptor,
};

/* liburing 2.3 does not export functions for all of these. */
static long raw_uring_register(struct raw_uring *u, unsigned operation, const void *arg,
                               unsigned count)
{
    return syscall(SYS_io_uring_register, u->ring.ring_fd, operation, arg, count);
}

/* The ring is disabled until it is restricted. Linux 5.10 and later can do that. */
static int raw_uring_restrict(struct raw_uring *u, int fd)
{
    static const uint8_t operations[] = { IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITEV,
                                          IORING_OP_FSYNC, IORING_OP_FALLOCATE };
    struct io_uring_restriction rules[ARRAY_SIZE(operations) + 2] = { 0 };
    unsigned count = 0;

    for (; count < ARRAY_SIZE(operations); count++) {
        rules[count].opcode = IORING_RESTRICTION_SQE_OP;
        rules[count].sqe_op = operations[count];
    }
    rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[count++].sqe_flags = IOSQE_FIXED_FILE;
    rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
    rules[count++].sqe_flags = IOSQE_FIXED_FILE;
    if (raw_uring_register(u, IORING_REGISTER_FILES, &fd, 1) < 0 ||
        raw_uring_register(u, IORING_REGISTER_RESTRICTIONS, rules, count) < 0 ||
        raw_uring_register(u, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        return -errno;
    return 0;
}

/*
 * Opens a file once more for the ring. Linux destroys a ring some time after it is closed, and
 * until then the lock of the open file would be held. -1: not possible. A block device is ours
 * alone, so it cannot be opened again.
 */
static int raw_uring_reopen(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    return open(fd_path(fd).text, (fcntl(fd, F_GETFL) & (O_ACCMODE | O_DIRECT)) | O_CLOEXEC);
}

static int raw_uring_open(struct raw_uring *u, int fd)
{
    cleanup_close int own = raw_uring_reopen(fd);
    int error = io_uring_queue_init(RING_ENTRIES, &u->ring, IORING_SETUP_R_DISABLED);

    if (error)
        return error;
    error = raw_uring_restrict(u, own < 0 ? fd : own);
    if (error)
        io_uring_queue_exit(&u->ring);
    return error;
}

int raw_uring_create(struct block **ret, const struct raw *raw)
{
    struct raw_uring *u = calloc(1, sizeof(*u));
    int error;

    if (!u)
        return -ENOMEM;
    error = raw_uring_open(u, raw->fd);
    if (error) {
        free(u);
        return error;
    }
    u->watch = (struct watch){ .fd = u->ring.ring_fd, .events = POLLIN, .ready = raw_uring_ready };
    u->raw = *raw;
    u->raw.block.ops = &raw_uring_ops;
    u->deferred_end = &u->deferred;
    loop_add(u->raw.loop, &u->watch);
    *ret = &u->raw.block;
    return 0;
}

#else

int raw_uring_create(struct block **ret, const struct raw *raw)
{
    return -ENOSYS;
}

#endif
