/* SPDX-License-Identifier: MIT */
#include "vmm/core/open.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/log.h"

/* Waits for nothing but the holder of a lease on a regular file. */
static int open_at_once(const char *path, int flags, mode_t mode)
{
    int fd = open(path, flags | O_NONBLOCK, mode);
    struct stat status;

    if (fd >= 0 || errno != EAGAIN || stat(path, &status) < 0 || !S_ISREG(status.st_mode))
        return fd;
    return open(path, flags, mode); /* the first try has notified the holder */
}

int open_existing(const char *path, int flags)
{
    return open_at_once(path, flags, 0);
}

int open_output(const char *path, int flags, mode_t mode)
{
    int fd = open_at_once(path, flags | O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, mode);

    if (fd >= 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int open_error(const char *what, const char *path)
{
    if (errno == ENXIO)
        return log_error(ENXIO, "%s %s (of a pipe, the reader must be there first)", what, path);
    return log_error(errno, "%s %s", what, path);
}
