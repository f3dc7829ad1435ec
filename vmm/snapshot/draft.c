/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot/draft.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
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

    if (!strcmp(name, SNAPSHOT_STATE) || !strcmp(name, SNAPSHOT_MEMORY))
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
        fd < 0 ? -1 : openat(fd, SNAPSHOT_STATE, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
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

/* As mkdtemp(3), in d->parent. */
static int draft_make_aside(struct draft *d)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t drawn[6];
    int made;

    do {
        char *end = stpcpy(d->aside, d->name);

        if (getrandom(drawn, sizeof(drawn), 0) != sizeof(drawn))
            return -EIO;
        *end++ = '.';
        for (unsigned i = 0; i < sizeof(drawn); i++)
            *end++ = letters[drawn[i] % (sizeof(letters) - 1)];
        *end = '\0';
        made = mkdirat(d->parent, d->aside, 0700);
        d->fd = made < 0 ? -1 : openat(d->parent, d->aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (d->fd < 0 && errno == (made < 0 ? EEXIST : ENOENT)); /* others remove what they find */
    return d->fd < 0 ? -errno : 0;
}

/* `path` is for messages. */
static int draft_begin_as(struct draft *d, int parent, const char *name, const char *path)
{
    int error;

    *d = (struct draft){ .path = path, .fd = -1 };
    d->parent = fcntl(parent, F_DUPFD_CLOEXEC, 0);
    if (strlen(name) >= sizeof(d->name) - DRAFT_SUFFIX)
        return log_refuse(ENAMETOOLONG, "%s: too long", path);
    strcpy(d->name, name);
    error = draft_make_aside(d);
    return error ? log_error(-error, "create %s", path) : 0;
}

int draft_begin_in(struct draft *d, int parent, const char *name)
{
    return draft_begin_as(d, parent, name, name);
}

int draft_begin(struct draft *d, const char *path)
{
    char above[PATH_MAX], last[PATH_MAX];
    cleanup_close int parent = -1;
    int error = check_replaceable(path);

    *d = (struct draft){ .path = path, .parent = -1, .fd = -1 };
    if (error)
        return error;
    if (snprintf(above, sizeof(above), "%s", path) >= (int)sizeof(above))
        return log_refuse(ENAMETOOLONG, "%s: too long", path);
    strcpy(last, above);
    parent = open(dirname(above), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return log_error(errno, "create %s", path);
    return draft_begin_as(d, parent, basename(last), path);
}

int draft_create(struct draft *d, const char *name)
{
    int fd = openat(d->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    return fd < 0 ? log_error(errno, "create %s/%s", d->path, name) : fd;
}

bool draft_remove(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (list && (entry = readdir(list)))
        unlinkat(fd, entry->d_name, 0); /* fails for . and .. */
    if (list)
        closedir(list);
    return unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

void draft_leave(struct draft *d)
{
    if (d->fd >= 0)
        close(d->fd);
    if (d->parent >= 0)
        close(d->parent);
    d->fd = d->parent = -1;
}

/* Another process may put its own there at any time. */
static int draft_rename(const struct draft *d, unsigned flags)
{
    return syscall(SYS_renameat2, d->parent, d->aside, d->parent, d->name, flags) < 0 ? -errno : 0;
}

int draft_commit(struct draft *d)
{
    int error = 0;

    if (fsync(d->fd) < 0)
        return log_error(errno, "write %s", d->path);
    if (renameat(d->parent, d->aside, d->parent, d->name) < 0)
        error = draft_rename(d, RENAME_EXCHANGE);
    if (error)
        return log_error(-error, "create %s", d->path);
    draft_remove(d->parent, d->aside); /* the old one, which has that name now, if any */
    error = fsync(d->parent) < 0 ? log_error(errno, "write %s", d->path) : 0;
    draft_leave(d);
    return error;
}

void draft_abandon(struct draft *d)
{
    if (d->fd < 0)
        return;
    log_warn("what was written is kept beside %s: %s", d->path, d->aside);
    draft_leave(d);
}

void draft_finish(struct draft *d)
{
    if (d->fd >= 0)
        draft_remove(d->parent, d->aside);
    draft_leave(d);
}
