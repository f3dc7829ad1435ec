/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/state_file.h"
#include "vmm/machine/snapshot.h"

/* Whether a snapshot has a file of this name. */
static bool is_snapshot_file(const char *name)
{
    unsigned number;
    char disk[32];

    if (!strcmp(name, "state") || !strcmp(name, "memory"))
        return true;
    if (sscanf(name, SNAPSHOT_DISK, &number) != 1)
        return false;
    snprintf(disk, sizeof(disk), SNAPSHOT_DISK, number);
    return !strcmp(name, disk);
}

/* A snapshot consists of nothing else, so that nothing else is removed with it. */
static bool is_snapshot(const char *path)
{
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    cleanup_close int state =
        fd < 0 ? -1 : openat(fd, "state", O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = state_file_is(state) ? fdopendir(dup(fd)) : NULL;
    bool is_one = list;
    struct dirent *entry;

    while (list && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            is_one &= is_snapshot_file(entry->d_name);
    if (list)
        closedir(list);
    return is_one;
}

static int check_replaceable(const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : log_error(errno, "%s", path);
    if (S_ISLNK(st.st_mode))
        return log_refuse(EEXIST, "%s is a symbolic link; name the directory itself", path);
    if (!is_snapshot(path))
        return log_refuse(EEXIST, "%s exists and is no snapshot; choose another name", path);
    return 0;
}

int directory_begin(struct directory *d, const char *path)
{
    size_t length = strlen(path);
    int error;

    *d = (struct directory){ .path = path, .fd = -1 };
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (snprintf(d->aside, sizeof(d->aside), "%.*s.XXXXXX", (int)length, path) >=
        (int)sizeof(d->aside))
        return log_refuse(ENAMETOOLONG, "%s: too long", path);
    error = check_replaceable(path);
    if (error)
        return error;
    if (!mkdtemp(d->aside))
        return log_error(errno, "create %s", path);
    d->fd = open(d->aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return d->fd < 0 ? log_error(errno, "create %s", path) : 0;
}

int directory_create(struct directory *d, const char *name)
{
    int fd = openat(d->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    return fd < 0 ? log_error(errno, "create %s/%s", d->path, name) : fd;
}

/* Removes the files of a directory, and the directory. */
static void directory_remove(const char *path, int fd)
{
    DIR *list = fdopendir(dup(fd));
    struct dirent *entry;

    while (list && (entry = readdir(list)))
        unlinkat(fd, entry->d_name, 0); /* fails for . and .. */
    if (list)
        closedir(list);
    rmdir(path);
}

int directory_commit(struct directory *d)
{
    cleanup_close int old = open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fsync(d->fd) < 0)
        return log_error(errno, "write %s", d->path);
    if (old < 0 && rename(d->aside, d->path) < 0)
        return log_error(errno, "create %s", d->path);
    if (old >= 0 &&
        syscall(SYS_renameat2, AT_FDCWD, d->aside, AT_FDCWD, d->path, RENAME_EXCHANGE) < 0)
        return log_error(errno, "replace %s", d->path);
    if (old >= 0)
        directory_remove(d->aside, old); /* it has the old one's name now */
    close(d->fd);
    d->fd = -1;
    return 0;
}

void directory_abandon(struct directory *d)
{
    if (d->fd < 0)
        return;
    log_warn("what was written is kept: %s", d->aside);
    close(d->fd);
    d->fd = -1;
}

void directory_finish(struct directory *d)
{
    if (d->fd < 0)
        return;
    directory_remove(d->aside, d->fd);
    close(d->fd);
    d->fd = -1;
}
