/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/block/raw.h"
#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"

#if HAVE_LIBURING

#include <liburing.h>

/*
 * Requests go into the kernel's ring, a system call for each batch. What the host has in memory is
 * done by that call already; the loop polls the ring itself for the rest. What does not fit waits
 * in a list of ours.
 */
#define RING_ENTRIES 128u

struct raw_uring {
    struct raw raw;
    struct io_uring ring;
    struct watch watch; /* the ring: something is done */
    unsigned in_flight; /* submitted and not yet done() */
    struct block_request *waiting, **waiting_end;
};

static void uring_wait_for_room(struct raw_uring *u, struct block_request *request)
{
    request->next = NULL;
    *u->waiting_end = request;
    u->waiting_end = &request->next;
}

static void uring_describe(struct raw_uring *u, struct io_uring_sqe *sqe,
                           struct block_request *request)
{
    int fd = u->raw.fd;
    int mode = request->op == BLOCK_WRITE_ZEROES && !request->unmap ? FALLOC_FL_ZERO_RANGE
                                                                    : FALLOC_FL_PUNCH_HOLE;
    unsigned count;

    if (raw_is_compound(&u->raw, request)) {
        io_uring_prep_nop(sqe); /* its turn; uring_completed() does it */
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

/* Puts a request into the ring. False: no room, but for the entry that uring_start() wants free. */
static bool uring_put(struct raw_uring *u, struct block_request *request)
{
    struct io_uring_sqe *sqe;

    if (io_uring_sq_space_left(&u->ring) <= 1)
        return false;
    sqe = io_uring_get_sqe(&u->ring);
    uring_describe(u, sqe, request);
    io_uring_sqe_set_data(sqe, request); /* last: preparing clears it */
    return true;
}

/* The host's file system does not know this operation, or its io_uring is too old for it. */
static bool uring_cannot(int result)
{
    return result == -EOPNOTSUPP || result == -EINVAL;
}

static void uring_completed(struct raw_uring *u, struct block_request *request, int result)
{
    bool data = request->op == BLOCK_READ || request->op == BLOCK_WRITE;
    int error = result < 0 ? result : 0;

    if (raw_is_compound(&u->raw, request) || (!data && uring_cannot(result))) {
        error = raw_perform(&u->raw, request); /* blocks: rare, and right */
    } else if (data && raw_advance(request, result, &error)) {
        if (!uring_put(u, request))
            uring_wait_for_room(u, request);
        return;
    }
    u->in_flight--;
    request->done(request, error);
}

/* Hands the kernel what is in the ring. If it is short of something, once more soon. */
static void uring_start(struct raw_uring *u)
{
    u->watch.events = POLLIN;
    while (io_uring_sq_ready(&u->ring) > 0) {
        int started = io_uring_submit(&u->ring);

        u->raw.block.calls++;
        if (started <= 0 && started != -EINTR) {
            u->watch.events = POLLIN | POLLOUT; /* a ring that is not full can be written to */
            return;
        }
    }
}

/* What waited for room goes on. */
static void uring_refill(struct raw_uring *u)
{
    while (u->waiting && uring_put(u, u->waiting)) {
        u->waiting = u->waiting->next;
        if (!u->waiting)
            u->waiting_end = &u->waiting;
    }
    uring_start(u);
}

static void uring_reap(struct raw_uring *u)
{
    struct io_uring_cqe *cqe;
    bool any = false;

    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct block_request *request = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&u->ring, cqe);
        uring_completed(u, request, result);
        any = true;
    }
    uring_refill(u);
    if (any)
        u->raw.block.completed(u->raw.block.owner);
}

static void uring_commit(struct block *block)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    uring_start(u);
    uring_reap(u);
}

static void uring_ready(struct watch *watch, short revents)
{
    uring_reap(container_of(watch, struct raw_uring, watch));
}

static void uring_submit(struct block *block, struct block_request *request)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    u->in_flight++;
    if (u->waiting || !uring_put(u, request))
        uring_wait_for_room(u, request);
}

/* As the loop does: until something is done, or can be tried again. False at the deadline. */
static bool uring_wait(struct raw_uring *u, uint64_t deadline_ns)
{
    struct pollfd ring = { .fd = u->watch.fd, .events = u->watch.events };
    uint64_t now = clock_now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec timeout = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };

    return ppoll(&ring, 1, deadline_ns == BLOCK_NO_DEADLINE ? NULL : &timeout, NULL) != 0;
}

static bool uring_drain(struct block *block, uint64_t deadline_ns)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    uring_commit(block);
    while (u->in_flight > 0) {
        if (!uring_wait(u, deadline_ns))
            return false;
        uring_reap(u);
    }
    return true;
}

static void uring_close(struct block *block)
{
    struct raw_uring *u = container_of(block, struct raw_uring, raw.block);

    uring_drain(block, BLOCK_NO_DEADLINE);
    loop_remove(u->raw.loop, &u->watch);
    io_uring_queue_exit(&u->ring);
    close(u->raw.fd);
    free(u);
}

static const struct block_ops uring_ops = {
    .submit = uring_submit,
    .commit = uring_commit,
    .drain = uring_drain,
    .close = uring_close,
};

int raw_uring_create(struct block **ret, const struct raw *raw)
{
    struct raw_uring *u = calloc(1, sizeof(*u));
    int error;

    if (!u)
        return -ENOMEM;
    error = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);
    if (error) {
        free(u);
        return error;
    }
    u->watch = (struct watch){ .fd = u->ring.ring_fd, .events = POLLIN, .ready = uring_ready };
    u->raw = *raw;
    u->raw.block.ops = &uring_ops;
    u->waiting_end = &u->waiting;
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
