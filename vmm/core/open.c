/* SPDX-License-Identifier: MIT */
#include "vmm/core/open.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

int open_existing(const char *path, int flags)
{
    int fd = open(path, flags | O_NONBLOCK);
    struct stat status;

    if (fd >= 0 || errno != EAGAIN || stat(path, &status) < 0 || !S_ISREG(status.st_mode))
        return fd;
    return open(path, flags); /* the first try has notified the holder of the lease */
}
