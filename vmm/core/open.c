/* SPDX-License-Identifier: MIT */
#include "vmm/core/open.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/core/log.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* on all architectures */
#endif

/* Waits for nothing but the holder of a lease on a regular file. */
static int open_at_once(const char *path, int flags, mode_t mode)
{
    int fd = open(path, flags | O_NONBLOCK, mode);
    struct stat status;

    if (fd >= 0 || errno != EAGAIN || stat(path, &status) < 0 || !S_ISREG(status.st_mode))
        return fd;
    return open(path, flags, mode); /* the first try has notified the holder */
}

static bool open_is_same(int fd, int other)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

int open_known(int path_fd, const char *path, int flags)
{
    char name[32];
    int fd;

    snprintf(name, sizeof(name), "/proc/self/fd/%d", path_fd);
    fd = open_at_once(name, flags, 0);
    if (fd >= 0 || errno != ENOENT || !path)
        return fd;
    fd = open_at_once(path, flags, 0);
    if (fd < 0 || open_is_same(fd, path_fd))
        return fd;
    close(fd);
    errno = ESTALE;
    return -1;
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

static void open_close_listed(const char *name, unsigned first, unsigned last, unsigned list)
{
    unsigned fd = 0;

    if (*name == '.')
        return;
    while (*name)
        fd = 10 * fd + (unsigned)(*name++ - '0');
    if (fd >= first && fd <= last && fd != list)
        close((int)fd);
}

void open_close_range(unsigned first, unsigned last)
{
    _Alignas(struct dirent64) char entries[1024];
    int list;
    long size;

    if (syscall(SYS_close_range, first, last, 0) == 0)
        return;
    list = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (list >= 0 && (size = getdents64(list, entries, sizeof(entries))) > 0)
        for (long at = 0; at < size; at += ((struct dirent64 *)(entries + at))->d_reclen)
            open_close_listed(((struct dirent64 *)(entries + at))->d_name, first, last,
                              (unsigned)list);
    if (list >= 0)
        close(list);
}

int open_error(const char *what, const char *path)
{
    if (errno == ENXIO)
        return log_error(ENXIO, "%s %s (of a pipe, the reader must be there first)", what, path);
    return log_error(errno, "%s %s", what, path);
}

struct fd_path fd_path(int fd)
{
    struct fd_path path;

    snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", fd);
    return path;
}
