/* SPDX-License-Identifier: MIT */
#include "devices/block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"

#define SECTOR_SIZE 512u
#define ZERO_CHUNK  (64u << 10) /* bytes per pwrite() where the host cannot zero a range */
#define BOUNCE_MAX  (1u << 20)  /* bytes of a bounce buffer */

bool raw_advance(struct block_request *request, ssize_t bytes, int *ret_error)
{
    *ret_error = 0;
    if (bytes == -EINTR || bytes == -EAGAIN)
        return true;
    if (bytes <= 0) { /* 0: another process has truncated the file */
        *ret_error = bytes < 0 ? (int)bytes : -EIO;
        return false;
    }
    sg_skip(&request->data, (size_t)bytes);
    request->offset += (uint64_t)bytes;
    request->length -= (uint64_t)bytes;
    return request->length > 0;
}

/* Is any piece not aligned for O_DIRECT? */
static bool raw_misaligned(const struct raw *raw, const struct block_request *request)
{
    struct sg rest = request->data;

    if (raw->align == 0)
        return false;
    while (rest.length > 0) {
        struct iovec piece = sg_front(&rest);

        if ((uintptr_t)piece.iov_base % raw->align || piece.iov_len % raw->align)
            return true;
        sg_skip(&rest, piece.iov_len);
    }
    return false;
}

bool raw_is_compound(const struct raw *raw, const struct block_request *request)
{
    return (request->op == BLOCK_WRITE_ZEROES && request->durable) || raw_misaligned(raw, request);
}

static ssize_t raw_transfer(int fd, const struct block_request *request, const struct iovec *iov,
                            unsigned count)
{
    ssize_t bytes;

    if (request->op == BLOCK_READ)
        bytes = preadv(fd, iov, (int)count, (off_t)request->offset);
    else
        bytes =
            pwritev2(fd, iov, (int)count, (off_t)request->offset, request->durable ? RWF_DSYNC : 0);
    return bytes < 0 ? -errno : bytes;
}

/* Reads or writes through an aligned bounce buffer. */
static int raw_bounce(const struct raw *raw, struct block_request *request)
{
    size_t size = request->length < BOUNCE_MAX ? request->length : BOUNCE_MAX;
    cleanup_free void *buffer = aligned_alloc(raw->align, align_up(size, raw->align));
    int error;
    bool more;

    if (!buffer)
        return -ENOMEM;
    do {
        struct iovec iov = { buffer, request->length < size ? request->length : size };
        struct sg data = request->data;
        ssize_t bytes;

        if (request->op == BLOCK_WRITE)
            sg_read(&data, buffer, iov.iov_len);
        bytes = raw_transfer(raw->fd, request, &iov, 1);
        if (request->op == BLOCK_READ && bytes > 0)
            sg_write(&data, buffer, (size_t)bytes);
        more = raw_advance(request, bytes, &error);
    } while (more);
    return error;
}

static int raw_read_write(const struct raw *raw, struct block_request *request)
{
    int error;
    bool more;

    if (raw_misaligned(raw, request))
        return raw_bounce(raw, request);
    do {
        unsigned count = sg_trim(&request->data);

        more =
            raw_advance(request, raw_transfer(raw->fd, request, request->data.iov, count), &error);
    } while (more);
    return error;
}

/* For file systems without FALLOC_FL_ZERO_RANGE or FALLOC_FL_PUNCH_HOLE. */
static int raw_write_zeros(const struct raw *raw, const struct block_request *request)
{
    uint32_t align = raw->align ? raw->align : SECTOR_SIZE;
    cleanup_free char *zeros = aligned_alloc(align, ZERO_CHUNK);
    uint64_t done = 0;

    if (!zeros)
        return -ENOMEM;
    memset(zeros, 0, ZERO_CHUNK);
    while (done < request->length) {
        uint64_t left = request->length - done;
        ssize_t bytes = pwrite(raw->fd, zeros, left < ZERO_CHUNK ? left : ZERO_CHUNK,
                               (off_t)(request->offset + done));

        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes <= 0)
            return bytes < 0 ? -errno : -EIO;
        done += (uint64_t)bytes;
    }
    return 0;
}

static int raw_fallocate(const struct raw *raw, const struct block_request *request, int mode)
{
    int ret;

    do
        ret = fallocate(raw->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)request->offset,
                        (off_t)request->length);
    while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : 0;
}

static int raw_flush(const struct raw *raw)
{
    return fdatasync(raw->fd) < 0 ? -errno : 0;
}

static int raw_zero(const struct raw *raw, const struct block_request *request)
{
    int mode = request->unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    int error = raw_fallocate(raw, request, mode);

    if (error == -EOPNOTSUPP)
        error = raw_write_zeros(raw, request);
    return error || !request->durable ? error : raw_flush(raw);
}

int raw_perform(const struct raw *raw, struct block_request *request)
{
    int error;

    switch (request->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        return raw_read_write(raw, request);
    case BLOCK_FLUSH:
        return raw_flush(raw);
    case BLOCK_DISCARD: /* a hint, ignored where the host cannot do it */
        error = raw_fallocate(raw, request, FALLOC_FL_PUNCH_HOLE);
        return error == -EOPNOTSUPP ? 0 : error;
    case BLOCK_WRITE_ZEROES:
        return raw_zero(raw, request);
    }
    return -EOPNOTSUPP;
}
