/* SPDX-License-Identifier: MIT */

/* For LD_PRELOAD: a host whose disk has died. No read of it ever comes back. */
#include <sys/uio.h>
#include <unistd.h>

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    for (;;)
        pause();
}
