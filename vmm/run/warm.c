/* SPDX-License-Identifier: MIT */
#include "vmm/run/warm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"
#include "vmm/snapshot/directory.h"

#define WARM_MAX  (1 * GIB) /* of all together */
#define KEY_FILE  "key"
#define KEY_MAX   8192
#define NAME_SIZE 17

/* 64-bit FNV-1a, in hexadecimal digits. Keys of the same name are told apart by their text. */
static void warm_name(char name[NAME_SIZE], const char *key)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * 0x100000001b3u;
    snprintf(name, NAME_SIZE, "%016llx", (unsigned long long)hash);
}

/* The directory of all, created if necessary: 0700. */
static int warm_root(char path[PATH_MAX])
{
    static const char *const below[] = { "", "/minivmm", "/warm" };
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && *cache == '/';
    const char *base = own ? cache : home;
    struct stat st;

    if (!base || *base != '/')
        return log_refuse(ENOENT, "no warm machine: neither HOME nor XDG_CACHE_HOME is a path");
    if (snprintf(path, PATH_MAX, "%s%s", base, own ? "" : "/.cache") >= PATH_MAX - 64)
        return log_refuse(ENAMETOOLONG, "no warm machine: %s", base);
    for (unsigned i = 0; i < ARRAY_SIZE(below); i++) {
        strcat(path, below[i]);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return log_error(errno, "no warm machine: create %s", path);
    }
    if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return log_refuse(EPERM, "no warm machine: %s is not the user's own directory", path);
    return 0;
}

static int warm_path(char path[PATH_MAX], const char *key)
{
    char name[NAME_SIZE];
    int error = warm_root(path);

    if (error)
        return error;
    warm_name(name, key);
    strcat(path, "/");
    strcat(path, name);
    return 0;
}

static bool warm_read_key(char key[KEY_MAX], int directory)
{
    cleanup_close int fd = openat(directory, KEY_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t size = fd < 0 ? -1 : read(fd, key, KEY_MAX - 1);

    if (size < 0)
        return false;
    key[size] = '\0';
    return true;
}

static int warm_check_key(const char *path, const char *key)
{
    cleanup_close int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char found[KEY_MAX];

    if (directory < 0)
        return log_error(errno, "no warm machine: %s", path);
    if (!warm_read_key(found, directory) || strcmp(found, key) != 0)
        return log_refuse(ENOENT, "no warm machine: %s is of another kind", path);
    utimensat(directory, KEY_FILE, NULL, 0); /* it was used now */
    return 0;
}

int warm_open(struct snapshot *ret, const char *key)
{
    char path[PATH_MAX];
    int error;

    *ret = (struct snapshot){ .memory = -1 };
    log_expect_errors(true);
    error = warm_path(path, key);
    if (!error)
        error = warm_check_key(path, key);
    if (!error)
        error = snapshot_open(ret, path);
    log_expect_errors(false);
    return error;
}

/* What the machines take, and the one that was not used for the longest time. */
struct warm_total {
    uint64_t size;
    char oldest[NAME_SIZE];
    time_t used;
};

static uint64_t warm_size(int root, const char *name, time_t *ret_used)
{
    static const char *const files[] = { "memory", "state", KEY_FILE };
    char path[NAME_SIZE + 16];
    uint64_t size = 0;
    struct stat st;

    *ret_used = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", name, files[i]);
        if (fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            size += (uint64_t)st.st_blocks * 512;
            *ret_used = st.st_mtime; /* of the key's, at last */
        }
    }
    return size;
}

/* False: something of it stays. */
static bool warm_remove(int root, const char *name)
{
    static const char *const files[] = { KEY_FILE, "memory", "state" };
    char path[NAME_SIZE + 16];

    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", name, files[i]);
        unlinkat(root, path, 0);
    }
    return unlinkat(root, name, AT_REMOVEDIR) == 0;
}

static void warm_remove_path(const char *path)
{
    char root_path[PATH_MAX], *name;
    cleanup_close int root = -1;

    snprintf(root_path, sizeof(root_path), "%s", path);
    name = strrchr(root_path, '/');
    *name++ = '\0';
    root = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    warm_remove(root, name);
}

static bool warm_is_name(const char *name)
{
    return strlen(name) == NAME_SIZE - 1 && strspn(name, "0123456789abcdef") == NAME_SIZE - 1;
}

static struct warm_total warm_measure(int root)
{
    struct warm_total total = { .used = 0 };
    DIR *list = fdopendir(openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *entry;
    uint64_t size;
    time_t used;

    while (list && (entry = readdir(list))) {
        if (!warm_is_name(entry->d_name))
            continue;
        size = warm_size(root, entry->d_name, &used);
        total.size += size;
        if (size > 0 && (!*total.oldest || used < total.used)) {
            memcpy(total.oldest, entry->d_name, NAME_SIZE);
            total.used = used;
        }
    }
    if (list)
        closedir(list);
    return total;
}

/* Removes the least recently used; who runs from it keeps the files. Never the newest. */
static void warm_prune(const char *path, const char *newest)
{
    cleanup_close int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct warm_total total = warm_measure(root);

    while (total.size > WARM_MAX && *total.oldest && strcmp(total.oldest, newest) != 0 &&
           warm_remove(root, total.oldest))
        total = warm_measure(root);
}

/* Waits for the machine's process, and keeps what it has made only if it says so. */
static _Noreturn void warm_keep(struct directory *d, int from)
{
    char path[PATH_MAX], *name;
    char byte;
    sigset_t all;

    setsid();
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_NAME, "minivmm-keeper");
    for (int fd = 0; fd < 3; fd++)
        dup2(from, fd);
    if (d->fd > 3)
        open_close_range(3, (unsigned)d->fd - 1);
    open_close_range((unsigned)d->fd + 1, ~0u);
    if (read(0, &byte, 1) == 1 && directory_commit(d) == 0) {
        snprintf(path, sizeof(path), "%s", d->path);
        name = strrchr(path, '/');
        *name++ = '\0';
        warm_prune(path, name);
    }
    directory_finish(d);
    _exit(0);
}

static int warm_create(struct directory *d, struct warm *w, const char *key)
{
    cleanup_close int file = directory_create(d, KEY_FILE);

    if (file < 0)
        return file;
    if (write(file, key, strlen(key)) != (ssize_t)strlen(key))
        return log_error(errno, "write %s", d->path);
    w->files.state = directory_create(d, "state");
    w->files.memory = w->files.state < 0 ? -1 : directory_create(d, "memory");
    if (w->files.memory < 0)
        return -EIO;
    /* Nobody is to write to them later: machines have the memory mapped. */
    return fchmod(w->files.state, 0400) < 0 || fchmod(w->files.memory, 0400) < 0
               ? log_error(errno, "write %s", d->path)
               : 0;
}

static int warm_start_keeper(struct directory *d, struct warm *w)
{
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return log_error(errno, "no warm machine");
    child = fork();
    if (child == 0) {
        close(ends[1]);
        warm_keep(d, ends[0]);
    }
    close(ends[0]);
    w->commit = ends[1];
    return child < 0 ? log_error(errno, "no warm machine") : 0;
}

int warm_begin(struct warm *w, const char *key)
{
    struct directory directory = { .fd = -1 };
    char path[PATH_MAX];
    int error;

    *w = (struct warm){ .files = { .state = -1, .memory = -1 }, .commit = -1 };
    log_expect_errors(true);
    error = strlen(key) < KEY_MAX ? warm_path(path, key) : -E2BIG;
    if (!error)
        warm_remove_path(path); /* warm_open() has found no good in it */
    if (!error)
        error = directory_begin(&directory, path);
    if (!error)
        error = warm_create(&directory, w, key);
    if (!error)
        error = warm_start_keeper(&directory, w);
    if (error) {
        directory_finish(&directory);
        warm_close(w);
    } else {
        close(directory.fd);
    }
    log_expect_errors(false);
    return error;
}

void warm_commit(struct warm *w)
{
    if (write(w->commit, "c", 1) < 0)
        log_info("the warm machine was not kept: %s", strerror(errno));
}

void warm_close(struct warm *w)
{
    int *ours[] = { &w->files.state, &w->files.memory, &w->commit };

    for (unsigned i = 0; i < ARRAY_SIZE(ours); i++) {
        if (*ours[i] >= 0)
            close(*ours[i]);
        *ours[i] = -1;
    }
}

static int warm_open_root(void)
{
    char path[PATH_MAX];
    int error = warm_root(path), fd;

    if (error)
        return error;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? log_error(errno, "%s", path) : fd;
}

static void warm_print(int root, const char *name)
{
    cleanup_close int directory = openat(root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char key[KEY_MAX], when[32];
    uint64_t size;
    time_t used;
    struct tm tm;

    size = warm_size(root, name, &used);
    if (directory < 0 || !warm_read_key(key, directory) || !localtime_r(&used, &tm))
        return;
    strftime(when, sizeof(when), "%F %T", &tm);
    for (char *at = key; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
    printf("%s  %4llu MiB  %s  %s\n", name, (unsigned long long)(size / MIB), when, key);
}

int warm_list(void)
{
    cleanup_close int root = warm_open_root();
    DIR *list = root < 0 ? NULL : fdopendir(dup(root));
    struct dirent *entry;

    if (!list)
        return root < 0 ? root : log_error(errno, "warm machines");
    while ((entry = readdir(list)))
        if (warm_is_name(entry->d_name))
            warm_print(root, entry->d_name);
    closedir(list);
    return fflush(stdout) ? log_error(errno, "write") : 0;
}

int warm_drop(const char *name)
{
    cleanup_close int root = warm_open_root();
    DIR *list = root < 0 ? NULL : fdopendir(dup(root));
    bool found = !strcmp(name, "all");
    struct dirent *entry;

    if (!list)
        return root < 0 ? root : log_error(errno, "warm machines");
    while ((entry = readdir(list)))
        if (warm_is_name(entry->d_name) && (!strcmp(name, "all") || !strcmp(name, entry->d_name))) {
            warm_remove(root, entry->d_name);
            found = true;
        }
    closedir(list);
    return found
               ? 0
               : log_refuse(ENOENT, "there is no warm machine '%s'; see minivmm warm --list", name);
}
