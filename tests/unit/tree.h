/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_TREE_H
#define TESTS_UNIT_TREE_H

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Temporary directory trees, for tests of code that reads files of the host. */

#define TREE_TEMPLATE "/tmp/minivmm-tree-XXXXXX"

static inline void tree_make(char *directory)
{
    strcpy(directory, TREE_TEMPLATE);
    if (!mkdtemp(directory))
        abort();
}

static inline int tree_remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static inline void tree_remove(const char *directory)
{
    nftw(directory, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Creates a file with these contents, and the directories of its path. */
static inline void tree_put(const char *directory, const char *name, const void *bytes, size_t size)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    for (char *end = path + 1; (end = strchr(end, '/')); *end++ = '/') {
        *end = '\0';
        mkdir(path, 0755);
    }
    file = fopen(path, "w");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file))
        abort();
}

static inline void tree_put_text(const char *directory, const char *name, const char *text)
{
    tree_put(directory, name, text, strlen(text));
}

static inline void tree_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        abort();
    close(fd);
}

/* An inotify descriptor that tells tree_was_opened() whether somebody has opened the file since. */
static inline int tree_watch_opens(const char *path)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

    if (inotify_add_watch(fd, path, IN_OPEN) < 0)
        abort();
    return fd;
}

static inline bool tree_was_opened(int watch)
{
    char event[sizeof(struct inotify_event) + NAME_MAX + 1];
    bool opened = read(watch, event, sizeof(event)) > 0;

    close(watch);
    return opened;
}

#define TREE_NO_MOUNTS "this user may create no mount namespace, not even in a user namespace"

/*
 * Gives the process a mount namespace in which it may mount: as root, or as root of a user
 * namespace. False: the host allows neither. The process must have one thread.
 */
static inline bool tree_own_mounts(void)
{
    char uid_map[32], gid_map[32];

    snprintf(uid_map, sizeof(uid_map), "0 %u 1", geteuid());
    snprintf(gid_map, sizeof(gid_map), "0 %u 1", getegid());
    if (unshare(CLONE_NEWNS) < 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
            return false;
        tree_write("/proc/self/setgroups", "deny");
        tree_write("/proc/self/uid_map", uid_map);
        tree_write("/proc/self/gid_map", gid_map);
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

#endif
