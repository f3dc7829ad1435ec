/* SPDX-License-Identifier: MIT */
#include "vmm/run/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

static bool cache_is_own(int fd, mode_t type)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type && st.st_uid == geteuid() &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/*
 * Goes on into a directory of *fd, which is closed. `ours`: nobody else could have made what it is
 * in, wherever the directories above it are moved.
 */
static int cache_enter(int *fd, const char *name, bool make, bool ours)
{
    cleanup_close int above = *fd;

    if (make && mkdirat(above, name, 0700) < 0 && errno != EEXIST) {
        *fd = -1;
        return log_error(errno, "the user's cache: create %s", name);
    }
    *fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return log_error(errno, "the user's cache: open %s", name);
    if (ours && !cache_is_own(*fd, S_IFDIR))
        return log_refuse(EPERM, "the user's cache: others own or can write to %s", name);
    return 0;
}

int cache_open(const char *name)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && *cache == '/';
    const char *const path[] = { own ? cache : home, own ? NULL : ".cache", "minivmm", name };
    cleanup_close int fd = AT_FDCWD;
    int error = 0;

    if (!path[0] || *path[0] != '/')
        return log_refuse(ENOENT, "the user's cache: neither HOME nor XDG_CACHE_HOME is a path");
    for (unsigned i = 0; i < ARRAY_SIZE(path) && !error; i++)
        if (path[i])
            error = cache_enter(&fd, path[i], i > 0 || own, i >= 2);
    return error ? error : take_fd(&fd);
}

int cache_open_file(int directory, const char *name)
{
    cleanup_close int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return cache_is_own(fd, S_IFREG) ? take_fd(&fd) : -EPERM;
}
