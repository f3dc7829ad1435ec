/* SPDX-License-Identifier: MIT */
#include "devices/block/open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "devices/block/format.h"
#include "devices/block/raw.h"
#include "devices/block/throw_away.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"

#define SECTOR_SIZE 512u

#define BUSY_TRIES   20
#define BUSY_WAIT_MS 10

static bool block_only_reads(const struct block_options *options)
{
    return options->read_only || options->throw_away;
}

/* Finds its size and block sizes. */
static int block_probe(struct raw *raw, const struct block_options *options)
{
    const char *path = options->path;
    struct stat st;
    int sector = SECTOR_SIZE, error;
    unsigned physical = 0;

    if (fstat(raw->fd, &st) < 0)
        return log_error(errno, "%s", path);
    /* O_NONBLOCK kept open_known() from waiting. io_uring would fail requests with EAGAIN. */
    if (fcntl(raw->fd, F_SETFL, fcntl(raw->fd, F_GETFL) & ~O_NONBLOCK) < 0)
        return log_error(errno, "%s", path);
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(raw->fd, BLKGETSIZE64, &raw->block.size) < 0)
            return log_error(errno, "%s: get its size", path);
        if (ioctl(raw->fd, BLKSSZGET, &sector) < 0 || ioctl(raw->fd, BLKPBSZGET, &physical) < 0)
            log_debug("%s: unknown sector size: %s", path, strerror(errno));
    } else {
        raw->block.size = (uint64_t)st.st_size;
        physical = (unsigned)st.st_blksize;
    }

    if (raw->block.size == 0)
        return log_refuse(EINVAL, "%s is empty: give it a size (truncate -s 1G %s)", path, path);
    if (!options->format_raw && (error = format_check(raw->fd, raw->block.size, path)))
        return error;
    if (raw->block.size % SECTOR_SIZE)
        return log_refuse(
            EINVAL, "%s: its size (%llu bytes) is not a multiple of 512: not a raw disk image",
            path, (unsigned long long)raw->block.size);
    raw->block.logical_size = S_ISBLK(st.st_mode) ? (uint32_t)sector : SECTOR_SIZE;
    raw->block.physical_size =
        physical > raw->block.logical_size ? physical : raw->block.logical_size;
    return 0;
}

/* Finds the alignment for O_DIRECT, which becomes the guest's logical block size. */
static int block_probe_direct(struct raw *raw, const char *path)
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

/* One writer or any number of readers. The lock ends when the process does, however it ends. */
static int block_lock(const struct raw *raw, const char *path)
{
    struct flock lock = { .l_type = raw->block.read_only ? F_RDLCK : F_WRLCK,
                          .l_whence = SEEK_SET };

    if (fcntl(raw->fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return log_refuse(EBUSY,
                          "%s is in use by another disk or virtual machine; stop it, or "
                          "give both the disk with ,ro or ,throw-away",
                          path);
    log_debug("%s: its file system cannot lock files: %s", path, strerror(errno));
    return 0;
}

/* On tmpfs io_uring hands each request to a worker thread, at twice the cost of a plain call. */
static bool block_on_tmpfs(const struct raw *raw)
{
    struct statfs fs;

    return fstatfs(raw->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static int block_start_engine(struct block **ret, const struct raw *raw,
                              const struct block_options *options)
{
    int error = -EOPNOTSUPP;

    if (options->engine == BLOCK_ENGINE_IO_URING ||
        (options->engine == BLOCK_ENGINE_AUTO && !block_on_tmpfs(raw))) {
        error = raw_uring_create(ret, raw);
        if (error && options->engine == BLOCK_ENGINE_IO_URING)
            return log_error(-error, "%s: io_uring is not available; try engine=thread",
                             options->path);
        if (error)
            log_debug("%s: no io_uring (%s), using engine=thread", options->path, strerror(-error));
    }
    if (error)
        error = raw_sync_create(ret, raw);
    return error ? log_error(-error, "%s: start its I/O engine", options->path) : 0;
}

/* Prints why open() failed and what to do about it. */
static int block_explain(int error, const struct block_options *options)
{
    bool denied = error == EACCES || error == EROFS || error == EPERM;

    if (error == EBUSY)
        return log_refuse(
            error, "%s is mounted or in use by another program; unmount it or stop that program",
            options->path);
    if (error == EINVAL && options->direct)
        return log_refuse(error,
                          "%s: its file system does not support direct I/O; leave out direct",
                          options->path);
    if (denied && !block_only_reads(options))
        return log_error(error, "open %s for writing (ro opens it read-only)", options->path);
    return log_error(error, "open %s", options->path);
}

/* A ring that used a block device holds it for some milliseconds after its process has ended. */
static int block_open_known(int path_fd, const char *path, int flags)
{
    int fd = open_known(path_fd, path, flags);

    for (unsigned tries = 0; fd < 0 && errno == EBUSY && tries < BUSY_TRIES; tries++) {
        poll(NULL, 0, BUSY_WAIT_MS);
        fd = open_known(path_fd, path, flags);
    }
    return fd;
}

/* Opens a regular file or a block device. Prints; -errno. */
static int block_open_file(const struct block_options *options, int flags)
{
    const char *path = options->path, *place = options->place ? options->place : path;
    cleanup_close int path_fd = open(place, O_PATH | O_CLOEXEC);
    struct stat st;
    int fd;

    if (path_fd < 0 || fstat(path_fd, &st) < 0)
        return block_explain(errno, options);
    if (S_ISDIR(st.st_mode))
        return log_refuse(EISDIR, "%s is a directory, not a disk image", path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return log_refuse(EINVAL, "%s is neither a regular file nor a block device", path);
    fd = block_open_known(path_fd, place, flags);
    return fd < 0 ? block_explain(errno, options) : fd;
}

/* Puts a layer above the image, which it closes on failure. */
static int block_add_layer(struct block **block, const struct block_options *options)
{
    struct block *image = *block;
    int error = throw_away_create(block, image, options->max ? options->max : BLOCK_THROW_AWAY_MAX,
                                  options->path);

    if (!error)
        return 0;
    block_close(image);
    return log_error(-error, "%s: make a throw-away layer", options->path);
}

int block_open(struct block **ret, const struct block_options *options, struct loop *loop)
{
    bool only_reads = block_only_reads(options);
    /* O_EXCL refuses a block device that is mounted. It has no effect on files. */
    int flags = (only_reads ? O_RDONLY : O_RDWR | O_EXCL) | O_CLOEXEC | O_NOCTTY |
                (options->direct ? O_DIRECT : 0);
    cleanup_close int fd = block_open_file(options, flags);
    struct raw raw = { .block = { .read_only = only_reads, .can_discard = !only_reads },
                       .loop = loop,
                       .fd = fd };
    struct block *block;
    int error;

    if (fd < 0)
        return fd;
    if ((error = block_probe(&raw, options)) ||
        (options->direct && (error = block_probe_direct(&raw, options->path))) ||
        (error = block_lock(&raw, options->path)) ||
        (error = block_start_engine(&block, &raw, options)))
        return error;
    take_fd(&fd);
    if (options->throw_away && (error = block_add_layer(&block, options)))
        return error;
    *ret = block;
    return 0;
}
