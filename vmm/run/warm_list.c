/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/run/warm.h"
#include "vmm/snapshot/draft.h"

/* What is in the cache of warm machines: how much, to be printed, to be removed. */
#define WARM_MAX (1 * GIB) /* of the keyed ones together */

/* The entries of a directory but . and ..; or NULL. */
static DIR *warm_read_directory(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? NULL : fdopendir(fd);
}

static const char *warm_next_name(DIR *list)
{
    const struct dirent *entry;

    while (list && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            return entry->d_name;
    if (list)
        closedir(list);
    return NULL;
}

/* Is it one that is being made, or whose maker was killed? */
static bool warm_is_aside(const char *name)
{
    return strchr(name, '.');
}

/* The bytes that it takes, and when it was used: a file of it was touched then. */
static uint64_t warm_size(int cache, const char *name, time_t *ret_used)
{
    DIR *list = warm_read_directory(cache, name);
    uint64_t size = 0;
    struct stat st;

    *ret_used = 0;
    while ((name = warm_next_name(list)))
        if (fstatat(dirfd(list), name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            size += (uint64_t)st.st_blocks * 512;
            *ret_used = st.st_mtime > *ret_used ? st.st_mtime : *ret_used;
        }
    return size;
}

/* Removes it if no keeper has it locked. */
static void warm_remove_abandoned(int cache, const char *name)
{
    cleanup_close int fd = openat(cache, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        draft_remove(cache, name);
}

/* What the machines take, and the one that was not used for the longest time. */
struct warm_total {
    uint64_t size;
    char oldest[WARM_NAME_SIZE];
    time_t used;
};

static struct warm_total warm_measure(int cache)
{
    DIR *list = warm_read_directory(cache, ".");
    struct warm_total total = { .used = 0 };
    const char *name;
    uint64_t size;
    time_t used;

    while ((name = warm_next_name(list))) {
        size = warm_size(cache, name, &used);
        total.size += size;
        if (!warm_is_aside(name) && size > 0 && strlen(name) < WARM_NAME_SIZE &&
            (!*total.oldest || used < total.used)) {
            strcpy(total.oldest, name);
            total.used = used;
        }
    }
    return total;
}

/* Whoever runs from one that is removed keeps the files. */
void warm_prune(enum warm_kind kind, const char *newest)
{
    cleanup_close int cache = warm_open_cache(kind);
    DIR *list = cache < 0 ? NULL : warm_read_directory(cache, ".");
    struct warm_total total;
    const char *name;

    while ((name = warm_next_name(list)))
        if (warm_is_aside(name))
            warm_remove_abandoned(cache, name);
    if (kind != WARM_KEYED || cache < 0)
        return;
    total = warm_measure(cache);
    while (total.size > WARM_MAX && *total.oldest && strcmp(total.oldest, newest) != 0 &&
           draft_remove(cache, total.oldest))
        total = warm_measure(cache);
}

static void warm_print(int cache, const char *name)
{
    cleanup_close int directory = openat(cache, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char text[WARM_TEXT_MAX], when[32];
    uint64_t size;
    time_t used;
    struct tm tm;

    size = warm_size(cache, name, &used);
    if (directory < 0 || warm_read_text(text, directory) < 0 || !localtime_r(&used, &tm))
        return;
    strftime(when, sizeof(when), "%F %T", &tm);
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
    printf("%s  %4llu MiB  %s  %s\n", name, (unsigned long long)(size / MIB), when, text);
}

/* Calls each() with every warm machine. Prints; -errno. */
static int warm_each(void (*each)(int cache, const char *name, void *owner), void *owner)
{
    for (enum warm_kind kind = 0; kind < WARM_KINDS; kind++) {
        cleanup_close int cache = warm_open_cache(kind);
        const char *name;
        DIR *list;

        if (cache < 0)
            return cache;
        list = warm_read_directory(cache, ".");
        while ((name = warm_next_name(list)))
            each(cache, name, owner);
    }
    return 0;
}

static void warm_list_one(int cache, const char *name, void *owner)
{
    if (!warm_is_aside(name))
        warm_print(cache, name);
}

int warm_list(void)
{
    int error = warm_each(warm_list_one, NULL);

    return error ? error : fflush(stdout) || ferror(stdout) ? log_error(errno, "write") : 0;
}

int warm_report_missing(const char *name)
{
    return log_refuse(ENOENT, "there is no warm machine '%s'; see minivmm warm --list", name);
}

struct warm_drop {
    const char *name;
    bool found;
};

static void warm_drop_one(int cache, const char *name, void *owner)
{
    struct warm_drop *drop = owner;
    bool all = !strcmp(drop->name, "all");

    if (warm_is_aside(name)) {
        if (all)
            warm_remove_abandoned(cache, name);
    } else if (all || !strcmp(name, drop->name)) {
        drop->found |= draft_remove(cache, name);
    }
}

int warm_drop(const char *name)
{
    struct warm_drop drop = { .name = name, .found = !strcmp(name, "all") };
    int error = warm_each(warm_drop_one, &drop);

    if (error || drop.found)
        return error;
    return warm_report_missing(name);
}
