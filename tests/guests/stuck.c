/* SPDX-License-Identifier: MIT */

/* For LD_PRELOAD: a host whose disk has died, as it says. No read of it ever comes back. */
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    const char *said = "the disk is dead\n";

    if (write(STDERR_FILENO, said, strlen(said)) < 0)
        _exit(99);
    for (;;)
        pause();
}
