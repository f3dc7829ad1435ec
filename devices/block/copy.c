/* SPDX-License-Identifier: MIT */
#include "devices/block/raw.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/write.h"

#define CHUNK (1 * MIB) /* also aligned enough for O_DIRECT */

static int copy_extent(int from, int to, uint64_t at, uint64_t end, uint8_t *buffer)
{
    int error = 0;

    while (at < end && !error) {
        size_t size = end - at < CHUNK ? align_up(end - at, 4096) : CHUNK;
        ssize_t got = pread(from, buffer, size, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO; /* 0: another process has truncated the file */
        error = write_all_at(to, buffer, (size_t)got, at);
        at += (uint64_t)got;
    }
    return error;
}

/* What the file has; without a file system's help, as for a block device, all of it. */
static int copy_data(const struct raw *raw, int to, uint64_t max)
{
    cleanup_free uint8_t *buffer = aligned_alloc(4096, CHUNK);
    uint64_t copied = 0;
    off_t data = lseek(raw->fd, 0, SEEK_DATA);
    int error = buffer ? 0 : -ENOMEM;

    if (!error && data < 0 && errno == EINVAL) /* a block device, which knows no holes */
        return raw->block.size > max ? -EFBIG
                                     : copy_extent(raw->fd, to, 0, raw->block.size, buffer);
    while (data >= 0 && (uint64_t)data < raw->block.size && !error) {
        off_t hole = lseek(raw->fd, data, SEEK_HOLE);
        uint64_t from = align_down((uint64_t)data, 4096);
        uint64_t end = hole < 0 ? raw->block.size : (uint64_t)hole;

        if (end > raw->block.size)
            end = raw->block.size;
        copied += end - from;
        error = copied > max ? -EFBIG : copy_extent(raw->fd, to, from, end, buffer);
        data = lseek(raw->fd, (off_t)end, SEEK_DATA);
    }
    return error ? error : data < 0 && errno != ENXIO ? -errno : 0;
}

int raw_copy(const struct block *block, int to, uint64_t max)
{
    const struct raw *raw = container_of(block, struct raw, block);

    if (ioctl(to, FICLONE, raw->fd) == 0)
        return 0;
    if (ftruncate(to, (off_t)block->size) < 0)
        return -errno;
    return copy_data(raw, to, max);
}

int raw_descriptor(const struct block *block)
{
    return container_of(block, struct raw, block)->fd;
}
