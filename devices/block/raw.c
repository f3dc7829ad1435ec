/* SPDX-License-Identifier: MIT */
#include "devices/block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

#define SECTOR_SIZE 512u
#define ZERO_CHUNK  (64u << 10) /* bytes written at a time where the host cannot zero a range */
#define BOUNCE_MAX  (1u << 20)  /* bytes */

bool raw_advance(struct block_request *request, ssize_t bytes, int *ret_error)
{
    *ret_error = 0;
    if (bytes == -EINTR || bytes == -EAGAIN)
        return true;
    if (bytes <= 0) { /* nothing: the file was cut short under us */
        *ret_error = bytes < 0 ? (int)bytes : -EIO;
        return false;
    }
    sg_skip(&request->data, (size_t)bytes);
    request->offset += (uint64_t)bytes;
    request->length -= (uint64_t)bytes;
    return request->length > 0;
}

/* Is any buffer out of step with what O_DIRECT wants? */
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

/* Reads or writes through a buffer of ours that lies as O_DIRECT wants it. */
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

/* Where the host cannot zero a range by itself. */
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

static int raw_allocate(const struct raw *raw, const struct block_request *request, int mode)
{
    int result;

    do
        result = fallocate(raw->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)request->offset,
                           (off_t)request->length);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

static int raw_flush(const struct raw *raw)
{
    return fdatasync(raw->fd) < 0 ? -errno : 0;
}

static int raw_zero(const struct raw *raw, const struct block_request *request)
{
    int mode = request->unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    int error = raw_allocate(raw, request, mode);

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
    case BLOCK_DISCARD: /* a hint: a host that cannot take it does nothing */
        error = raw_allocate(raw, request, FALLOC_FL_PUNCH_HOLE);
        return error == -EOPNOTSUPP ? 0 : error;
    case BLOCK_WRITE_ZEROES:
        return raw_zero(raw, request);
    }
    return -EOPNOTSUPP;
}

/* What kind of file it is, and how large. */
static int raw_measure(struct raw *raw, const char *path)
{
    struct stat st;
    int sector = SECTOR_SIZE;
    unsigned physical = 0;

    if (fstat(raw->fd, &st) < 0)
        return log_error(errno, "%s", path);
    /* O_NONBLOCK was for FIFOs, which are refused; io_uring would take it for a wish of ours. */
    if (fcntl(raw->fd, F_SETFL, fcntl(raw->fd, F_GETFL) & ~O_NONBLOCK) < 0)
        return log_error(errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return log_refuse(EISDIR, "%s is a directory, not a disk image", path);
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(raw->fd, BLKGETSIZE64, &raw->block.size) < 0)
            return log_error(errno, "%s: ask for its size", path);
        if (ioctl(raw->fd, BLKSSZGET, &sector) < 0 || ioctl(raw->fd, BLKPBSZGET, &physical) < 0)
            log_debug("%s: no sector size: %s", path, strerror(errno));
    } else if (S_ISREG(st.st_mode)) {
        raw->block.size = (uint64_t)st.st_size;
        physical = (unsigned)st.st_blksize;
    } else {
        return log_refuse(EINVAL, "%s is neither a regular file nor a block device", path);
    }

    if (raw->block.size == 0)
        return log_refuse(EINVAL, "%s is empty: give it a size (truncate -s 1G %s)", path, path);
    if (raw->block.size % SECTOR_SIZE)
        return log_refuse(EINVAL, "%s: its %llu bytes are no multiple of 512: not a raw disk image",
                          path, (unsigned long long)raw->block.size);
    raw->block.logical_size = S_ISBLK(st.st_mode) ? (uint32_t)sector : SECTOR_SIZE;
    raw->block.physical_size =
        physical > raw->block.logical_size ? physical : raw->block.logical_size;
    return 0;
}

/* What O_DIRECT wants; the guest is told as its block size. */
static int raw_measure_direct(struct raw *raw, const char *path)
{
    struct statx stx;

    raw->align = 4096;
#ifdef STATX_DIOALIGN
    if (statx(raw->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        stx.stx_mask & STATX_DIOALIGN && stx.stx_dio_offset_align)
        raw->align = stx.stx_dio_offset_align > stx.stx_dio_mem_align ? stx.stx_dio_offset_align
                                                                      : stx.stx_dio_mem_align;
#else
    (void)stx;
#endif
    if (raw->block.logical_size < raw->align)
        raw->block.logical_size = raw->align;
    if (raw->block.physical_size < raw->align)
        raw->block.physical_size = raw->align;
    if (raw->block.size % raw->align)
        return log_refuse(EINVAL, "%s: direct needs a size that is a multiple of %u", path,
                          raw->align);
    return 0;
}

/* One writer, or any number of readers. The lock goes with the descriptor, whatever ends us. */
static int raw_lock(const struct raw *raw, const char *path)
{
    struct flock lock = { .l_type = raw->block.read_only ? F_RDLCK : F_WRLCK,
                          .l_whence = SEEK_SET };

    if (fcntl(raw->fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return log_refuse(EBUSY,
                          "%s is in use by another disk or virtual machine; stop it, or "
                          "give both the disk with ,ro",
                          path);
    log_debug("%s: cannot be locked here: %s", path, strerror(errno));
    return 0;
}

/* On tmpfs io_uring hands each request to a worker, for twice the price of doing it. */
static bool raw_in_memory(const struct raw *raw)
{
    struct statfs fs;

    return fstatfs(raw->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static int raw_start(struct block **ret, const struct raw *raw, const struct disk_config *config)
{
    int error = -EOPNOTSUPP;

    if (config->engine == DISK_ENGINE_IO_URING ||
        (config->engine == DISK_ENGINE_AUTO && !raw_in_memory(raw))) {
        error = raw_uring_create(ret, raw);
        if (error && config->engine == DISK_ENGINE_IO_URING)
            return log_error(-error, "%s: io_uring is not to be had; try engine=thread",
                             config->path);
        if (error)
            log_debug("%s: no io_uring (%s), making blocking calls", config->path,
                      strerror(-error));
    }
    if (error)
        error = raw_sync_create(ret, raw);
    return error ? log_error(-error, "%s: start its engine", config->path) : 0;
}

/* Why open() did not work, and what to do about it. */
static int raw_refuse(int error, const struct disk_config *config)
{
    bool denied = error == EACCES || error == EROFS || error == EPERM;

    if (error == EISDIR)
        return log_refuse(error, "%s is a directory, not a disk image", config->path);
    if (error == EBUSY)
        return log_refuse(error, "%s is mounted or in use by another program; end that use first",
                          config->path);
    if (error == EINVAL && config->direct)
        return log_refuse(error, "%s: its file system knows no direct I/O; leave direct out",
                          config->path);
    if (denied && !config->read_only)
        return log_error(error, "open %s for writing (read-only: --disk %s,ro)", config->path,
                         config->path);
    return log_error(error, "open %s", config->path);
}

int raw_open(struct block **ret, const struct disk_config *config, struct loop *loop)
{
    /* O_EXCL: not a block device that is mounted. It says nothing about files. */
    int flags = (config->read_only ? O_RDONLY : O_RDWR | O_EXCL) | O_CLOEXEC | O_NONBLOCK |
                O_NOCTTY | (config->direct ? O_DIRECT : 0);
    cleanup_close int fd = open(config->path, flags);
    struct raw raw = { .block = { .read_only = config->read_only,
                                  .can_discard = !config->read_only },
                       .loop = loop,
                       .fd = fd };
    int error;

    if (fd < 0)
        return raw_refuse(errno, config);
    if ((error = raw_measure(&raw, config->path)) ||
        (config->direct && (error = raw_measure_direct(&raw, config->path))) ||
        (error = raw_lock(&raw, config->path)) || (error = raw_start(ret, &raw, config)))
        return error;
    take_fd(&fd);
    return 0;
}
