/* SPDX-License-Identifier: MIT */

/* For LD_PRELOAD: a disk whose reads never complete. */
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    const char *message = "the disk is dead\n";

    if (write(STDERR_FILENO, message, strlen(message)) < 0)
        _exit(99);
    for (;;)
        poll(NULL, 0, -1);
}
