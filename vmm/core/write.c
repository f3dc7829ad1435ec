/* SPDX-License-Identifier: MIT */
#include "vmm/core/write.h"

#include <errno.h>
#include <unistd.h>

/* What a call has written of the rest. -errno. */
static ssize_t write_result(ssize_t done)
{
    if (done > 0)
        return done;
    if (done == 0)
        return -ENOSPC;
    return errno == EINTR ? 0 : -errno;
}

int write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes, *end = at + size;

    while (at < end) {
        ssize_t done = write_result(write(fd, at, (size_t)(end - at)));

        if (done < 0)
            return (int)done;
        at += done;
    }
    return 0;
}

int write_all_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
    const char *at = bytes, *end = at + size;

    while (at < end) {
        ssize_t done = write_result(pwrite(fd, at, (size_t)(end - at), (off_t)offset));

        if (done < 0)
            return (int)done;
        at += done;
        offset += (uint64_t)done;
    }
    return 0;
}
