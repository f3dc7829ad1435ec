/* SPDX-License-Identifier: MIT */
#include "vmm/run/warm.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/config/config.h"
#include "vmm/config/config_state.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"
#include "vmm/core/write.h"
#include "vmm/run/cache.h"
#include "vmm/snapshot/draft.h"

#define TEXT_FILE   "text"
#define CONFIG_FILE "config" /* of a named one: as state_file.h describes, with one section */

/* 64-bit FNV-1a. Keys of the same name are told apart by their text. */
void warm_key_name(char ret[WARM_NAME_SIZE], const char *key)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * 0x100000001b3u;
    snprintf(ret, WARM_NAME_SIZE, "%016llx", (unsigned long long)hash);
}

/* Without a dot: only a directory that is not complete has one. */
bool warm_is_name(const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= WARM_NAME_SIZE || !isalnum((unsigned char)*name) ||
        !strcmp(name, "all"))
        return false;
    while (isalnum((unsigned char)*name) || *name == '-' || *name == '_')
        name++;
    return !*name;
}

int warm_open_cache(enum warm_kind kind)
{
    return cache_open(kind == WARM_NAMED ? "named" : "warm");
}

int warm_read_text(char text[WARM_TEXT_MAX], int directory)
{
    cleanup_close int fd = cache_open_file(directory, TEXT_FILE);
    ssize_t size = fd < 0 ? fd : read(fd, text, WARM_TEXT_MAX - 1);

    if (size < 0)
        return fd < 0 ? fd : -errno;
    text[size] = '\0';
    return 0;
}

/* The configuration of a named one is the last. Prints nothing; -errno. */
static int warm_open_files(struct snapshot_files *ret, char text[WARM_TEXT_MAX],
                           enum warm_kind kind, int directory)
{
    static const char *const names[] = { SNAPSHOT_STATE, SNAPSHOT_MEMORY, CONFIG_FILE };
    unsigned count = ARRAY_SIZE(names) - (kind != WARM_NAMED);
    int error = warm_read_text(text, directory);

    ret->count = 0;
    for (unsigned i = 0; i < count && !error; i++) {
        int fd = cache_open_file(directory, names[i]);

        error = fd < 0 ? fd : snapshot_files_add(ret, fd);
    }
    if (error)
        snapshot_files_close(ret);
    return error;
}

/* Has another one got this name? Then the files of this one go. */
static bool warm_is_replaced(int cache, const char *name, int directory)
{
    struct stat now, opened;

    return fstatat(cache, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && fstat(directory, &opened) == 0 &&
           now.st_ino != opened.st_ino;
}

/* Prints; 1: again. */
static int warm_try_to_open(struct snapshot_files *ret, char text[WARM_TEXT_MAX],
                            enum warm_kind kind, int cache, const char *name)
{
    cleanup_close int directory =
        openat(cache, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int error;

    if (directory < 0)
        return errno == ENOENT ? warm_report_missing(name)
                               : log_error(errno, "the warm machine %s", name);
    error = warm_open_files(ret, text, kind, directory);
    if (error)
        return error == -ENOENT && warm_is_replaced(cache, name, directory)
                   ? 1
                   : log_error(-error, "the warm machine %s", name);
    utimensat(directory, TEXT_FILE, NULL, 0); /* it was used now */
    return 0;
}

static int warm_load_config(int file, struct config *config, const char *name)
{
    const struct snapshot_files files = { .fds = { file }, .count = 1 };
    struct snapshot snap;
    int error = snapshot_open_files(&snap, &files, name);

    if (!error)
        error = snapshot_load_config(&snap, config);
    snapshot_close(&snap);
    return error;
}

static int warm_skip_config(struct snapshot *snap)
{
    struct config saved;
    int error = config_set_defaults(&saved);

    if (!error)
        error = snapshot_load_config(snap, &saved);
    config_finish(&saved);
    return error;
}

int warm_open(struct snapshot *ret, char text[WARM_TEXT_MAX], struct config *config,
              enum warm_kind kind, const char *name)
{
    cleanup_close int cache = warm_open_cache(kind);
    struct snapshot_files files = { .count = 0 };
    int error = cache < 0 ? cache : 1;

    *ret = (struct snapshot){ .directory = -1 };
    while (error > 0)
        error = warm_try_to_open(&files, text, kind, cache, name);
    if (!error && kind == WARM_NAMED)
        error = warm_load_config(files.fds[--files.count], config, name);
    if (error) {
        snapshot_files_close(&files);
        return error;
    }
    error = snapshot_open_files(ret, &files, name);
    return error ? error : warm_skip_config(ret);
}

static void warm_close_all_but(int a, int b)
{
    int low = a < b ? a : b, high = a < b ? b : a;

    if (low > 3)
        open_close_range(3, (unsigned)low - 1);
    if (high > low + 1)
        open_close_range((unsigned)low + 1, (unsigned)high - 1);
    open_close_range((unsigned)high + 1, ~0u);
}

/* Lets go of everything that is the machine's. */
static void warm_become_keeper(const struct draft *d, int machine)
{
    int null = open("/dev/null", O_RDWR);
    sigset_t all;

    setsid();
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_NAME, "minivmm-keeper");
    dup2(machine, 0);
    dup2(null, 1);
    dup2(null, 2);
    warm_close_all_but(d->parent, d->fd);
}

/* Waits for the machine's process, and keeps what that has made only if it says so. */
static _Noreturn void warm_keep(struct draft *d, enum warm_kind kind, int machine)
{
    int error = -ECANCELED;
    char byte;

    warm_become_keeper(d, machine);
    if (read(0, &byte, 1) == 1)
        error = draft_commit(d);
    draft_finish(d);
    if (send(0, &error, sizeof(error), MSG_NOSIGNAL) > 0 && !error)
        warm_prune(kind, d->name);
    _exit(0);
}

/* Nobody is to write to them later: machines have the memory mapped. */
static int warm_create_file(struct draft *d, const char *name)
{
    int fd = draft_create(d, name);

    if (fd >= 0 && fchmod(fd, 0400) < 0) {
        log_error(errno, "create %s/%s", d->path, name);
        close(fd);
        return -EIO;
    }
    return fd;
}

static int warm_write_config(struct draft *d, struct config *config)
{
    const uint8_t id[SNAPSHOT_ID_SIZE] = { 0 };
    cleanup_close int file = warm_create_file(d, CONFIG_FILE);
    struct state s;
    int error;

    if (file < 0)
        return file;
    state_begin_save(&s);
    config_state(config, &s);
    error = s.error ? log_refuse(-s.error, "the warm machine %s: %s", d->path, s.why)
                    : state_file_write(file, &s, id);
    if (!s.error && (error || fsync(file) < 0))
        error = log_error(error ? -error : errno, "write %s", d->path);
    state_finish(&s);
    return error;
}

static int warm_create(struct draft *d, struct warm *w, const char *text, struct config *config)
{
    static const char *const names[] = { SNAPSHOT_STATE, SNAPSHOT_MEMORY };
    cleanup_close int file = warm_create_file(d, TEXT_FILE);
    size_t size = strlen(text);
    int error;

    if (file < 0)
        return file;
    if (size >= WARM_TEXT_MAX)
        return log_refuse(E2BIG, "the warm machine %s: its description is too long", d->path);
    error = write_all(file, text, size);
    if (error || fsync(file) < 0)
        return log_error(error ? -error : errno, "write %s", d->path);
    if (config && (error = warm_write_config(d, config)))
        return error;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        int fd = warm_create_file(d, names[i]);

        if (fd < 0)
            return fd;
        snapshot_files_add(&w->files, fd);
    }
    return 0;
}

static int warm_start_keeper(struct draft *d, struct warm *w, enum warm_kind kind)
{
    int ends[2];
    pid_t child;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return log_error(errno, "the warm machine %s", d->path);
    child = fork();
    if (child == 0) {
        close(ends[1]);
        warm_keep(d, kind, ends[0]);
    }
    close(ends[0]);
    w->keeper = ends[1];
    return child < 0 ? log_error(errno, "the warm machine %s", d->path) : 0;
}

/*
 * The lock tells warm_prune() that somebody is at it: the keeper, as this process closes it. If one
 * came before the lock, it removes the directory, and another is made.
 */
static int warm_begin_draft(struct draft *d, int cache, const char *name)
{
    bool is_mine = false;
    struct stat st;
    int error;

    do {
        error = draft_begin_in(d, cache, name);
        if (error)
            return error;
        is_mine = flock(d->fd, LOCK_EX | LOCK_NB) == 0 &&
                  fstatat(d->parent, d->aside, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (!is_mine && errno != EWOULDBLOCK && errno != ENOENT)
            return log_error(errno, "the warm machine %s", name);
        if (!is_mine)
            draft_finish(d);
    } while (!is_mine);
    return 0;
}

int warm_begin(struct warm *w, enum warm_kind kind, const char *name, const char *text,
               struct config *config)
{
    struct draft draft = { .parent = -1, .fd = -1 };
    cleanup_close int cache = warm_open_cache(kind);
    int error = cache < 0 ? cache : warm_begin_draft(&draft, cache, name);

    *w = (struct warm){ .keeper = -1 };
    if (!error)
        error = warm_create(&draft, w, text, config);
    if (!error)
        error = warm_start_keeper(&draft, w, kind);
    if (error) {
        draft_finish(&draft);
        warm_close(w);
    } else {
        draft_leave(&draft);
    }
    return error;
}

int warm_commit(struct warm *w, bool wait)
{
    int error = 0;

    if (write(w->keeper, "c", 1) != 1)
        return -errno;
    if (wait && read(w->keeper, &error, sizeof(error)) != sizeof(error))
        return -EPIPE;
    return error;
}

void warm_close(struct warm *w)
{
    snapshot_files_close(&w->files);
    if (w->keeper >= 0)
        close(w->keeper);
    w->keeper = -1;
}
