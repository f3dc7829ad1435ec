/* SPDX-License-Identifier: MIT */
#include "vmm/run/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"
#include "vmm/run/guest_file.h"
#include "vmm/run/options.h"

const char *mounts_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    if (!strcmp(directory, "/"))
        return strcmp(path, "/") != 0 ? path : "";
    if (strncmp(path, directory, length) != 0 || (path[length] && path[length] != '/'))
        return NULL;
    return path + length;
}

/* The real path of a host directory; NULL after a message. */
static const char *mounts_resolve(struct run_options *options, const char *option, const char *path)
{
    const char *colon = strrchr(path, ':');
    char real[PATH_MAX];
    struct stat st;

    if (!realpath(path, real) || stat(real, &st) < 0) {
        log_error(errno, "--%s %s%s", option, path,
                  colon && strcmp(option, "root") ? " (GUESTDIR must begin with a slash)" : "");
        return NULL;
    }
    if (!S_ISDIR(st.st_mode)) {
        log_refuse(ENOTDIR, "--%s %s: not a directory", option, path);
        return NULL;
    }
    return run_options_format(options, "%s", real);
}

/* Removes double slashes and "."; false: the path is not absolute, or has a "..". */
static bool mounts_normalize(char *path)
{
    char *to = path, *word, *rest = path;

    if (*path != '/')
        return false;
    while ((word = strsep(&rest, "/"))) {
        size_t length = strlen(word);

        if (!strcmp(word, ".."))
            return false;
        if (length == 0 || !strcmp(word, "."))
            continue;
        *to++ = '/';
        memmove(to, word, length);
        to += length;
    }
    if (to == path)
        *to++ = '/';
    *to = '\0';
    return true;
}

/* Splits DIR:GUESTDIR, returns GUESTDIR; NULL: there is none. */
static char *mounts_split(char *text)
{
    char *colon = strrchr(text, ':');

    if (!colon || colon[1] != '/')
        return NULL;
    *colon = '\0';
    return colon + 1;
}

/* The length of the longest part of the path that exists below `root`; *ret_fd is open there. */
static size_t mounts_existing(const char *root, const char *path, int *ret_fd)
{
    char part[PATH_MAX];
    char *end = stpncpy(part, path, sizeof(part) - 1);

    *end = '\0';
    while ((*ret_fd = guest_file_open(root, *part ? part : "/", O_PATH)) < 0 && *part)
        *strrchr(part, '/') = '\0';
    return strlen(part);
}

/*
 * Where a share at this path of the guest really is: links of the root are followed, so that the
 * same place has one name.
 */
static const char *mounts_follow(struct run_options *options, const struct mount *root,
                                 const char *guest)
{
    cleanup_close int fd = -1;
    size_t existing = mounts_existing(root->host, guest, &fd);
    char real[PATH_MAX];
    const char *below;
    ssize_t length;

    length = fd < 0 ? -1 : readlink(fd_path(fd).text, real, sizeof(real) - 1);
    if (length < 0)
        return guest;
    real[length] = '\0';
    below = mounts_below(real, root->host);
    return below ? run_options_format(options, "%s%s", below, guest + existing) : guest;
}

static int mounts_parse(struct mount *mount, struct run_options *options, const struct mount *root,
                        const struct run_word *word)
{
    const char *option = word->writable ? "rw" : "ro", *below;
    char *host = run_options_format(options, "%s", word->text);
    char *guest = host ? mounts_split(host) : NULL;

    mount->writable = word->writable;
    mount->host = host ? mounts_resolve(options, option, host) : NULL;
    if (!mount->host)
        return -EINVAL;
    below = mounts_below(mount->host, root->host);
    if (!guest)
        guest = run_options_format(options, "%s", below && *below ? below : mount->host);
    if (!guest)
        return -ENOMEM;
    if (!mounts_normalize(guest))
        return log_refuse(EINVAL, "--%s %s: GUESTDIR must not contain '..'", option, word->text);
    if (!strcmp(guest, "/"))
        return log_refuse(EINVAL, "--%s %s: GUESTDIR must not be /; use --root", option,
                          word->text);
    mount->guest = guest;
    return 0;
}

/* Refuses two shares at one guest path, and a --ro share inside of a --rw share. */
static int mounts_check_pair(const struct mount *a, const struct mount *b)
{
    if (!strcmp(a->guest, b->guest))
        return log_refuse(EINVAL, "--ro, --rw: two directories at %s in the guest: %s and %s",
                          a->guest, a->host, b->host);
    if (a->writable && !b->writable && mounts_below(b->host, a->host))
        return log_refuse(EINVAL, "--ro %s: the guest could write to it through --rw %s", b->host,
                          a->host);
    return 0;
}

/* The share that `inner` is mounted in, of the first `count`; NULL: the root. */
static const struct mount *mounts_outer(const struct mount *shares, unsigned count,
                                        const struct mount *inner)
{
    const struct mount *found = NULL;

    for (unsigned i = 0; i < count; i++)
        if (&shares[i] != inner && mounts_below(inner->guest, shares[i].guest) &&
            (!found || strlen(shares[i].guest) > strlen(found->guest)))
            found = &shares[i];
    return found;
}

static bool mounts_is_link(const char *root, const char *path)
{
    cleanup_close int fd = guest_file_open(root, path, O_PATH | O_NOFOLLOW);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode);
}

/* Refuses a share behind a link of another share: the guest would mount it wherever that leads. */
static int mounts_check_links(const struct mount *inner, const struct mount *outer)
{
    const char *place = mounts_below(inner->guest, outer->guest), *end = place;
    char part[PATH_MAX];

    while (*end) {
        end += 1 + strcspn(end + 1, "/");
        snprintf(part, sizeof(part), "%.*s", (int)(end - place), place);
        if (mounts_is_link(outer->host, part))
            return log_refuse(EINVAL, "--%s %s: %s%s is a link in %s: name a place without links",
                              inner->writable ? "rw" : "ro", inner->host, outer->guest, part,
                              outer->host);
    }
    return 0;
}

static int mounts_compare(const void *a, const void *b)
{
    return strcmp(((const struct mount *)a)->guest, ((const struct mount *)b)->guest);
}

/* Outer shares first. Links of what a share covers are not the guest's. */
static int mounts_follow_all(struct mounts *mounts, struct run_options *options)
{
    struct mount *shares = mounts->shares;
    unsigned count = mounts->share_count;
    const struct mount *outer;
    int error = 0;

    qsort(shares, count, sizeof(struct mount), mounts_compare);
    for (unsigned i = 0; i < count; i++) {
        if (!mounts_outer(shares, i, &shares[i]))
            shares[i].guest = mounts_follow(options, &mounts->root, shares[i].guest);
        if (!shares[i].guest)
            return -ENOMEM;
    }
    qsort(shares, count, sizeof(struct mount), mounts_compare);
    for (unsigned i = 0; i < count && !error; i++)
        if ((outer = mounts_outer(shares, count, &shares[i])))
            error = mounts_check_links(&shares[i], outer);
    return error;
}

static int mounts_find_shares(struct mounts *mounts, struct run_options *options)
{
    unsigned count = 0;
    int error = 0;

    for (struct run_word *word = options->shares; word; word = word->next)
        count++;
    mounts->shares = arena_alloc(&options->machine.arena, (count + 1) * sizeof(struct mount));
    if (!mounts->shares)
        return log_error(ENOMEM, "--ro, --rw");
    for (struct run_word *word = options->shares; word && !error; word = word->next)
        error = mounts_parse(&mounts->shares[mounts->share_count++], options, &mounts->root, word);
    if (!error)
        error = mounts_follow_all(mounts, options);
    for (unsigned i = 0; i < count && !error; i++)
        for (unsigned j = 0; j < count && !error; j++)
            if (i != j)
                error = mounts_check_pair(&mounts->shares[i], &mounts->shares[j]);
    return error;
}

/* The root for index 0, then the shares. */
static const struct mount *mounts_get(const struct mounts *mounts, unsigned index)
{
    return index == 0 ? &mounts->root : &mounts->shares[index - 1];
}

/* Whether the guest has a filesystem of its own there, which hides the root's files. */
static bool mounts_is_guests_own(const struct mounts *mounts, const char *path)
{
    static const char *const own[] = { "/dev", "/proc", "/sys" };
    const char *name = mounts_below(path, "/run");

    for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
        if (mounts_below(path, own[i]))
            return true;
    for (const char *const *shown = mounts->run; name && *name && *shown; shown++)
        if (mounts_below(name + 1, *shown))
            return false;
    return name;
}

/* Whether a path in the guest leads to this mount, not to one on top of it. */
static bool mounts_shows(const struct mounts *mounts, const struct mount *mount, const char *path)
{
    size_t length = strlen(mount->guest);

    for (unsigned i = 0; i < mounts->share_count; i++)
        if (mounts_below(path, mounts->shares[i].guest) && strlen(mounts->shares[i].guest) > length)
            return false;
    return mount != &mounts->root || !mounts_is_guests_own(mounts, path);
}

/* The guest path of a host directory, through the innermost share. NULL: the guest has none. */
static const char *mounts_guest_path(const struct mounts *mounts, struct run_options *options,
                                     const char *host)
{
    const char *found = NULL;
    size_t best = 0;

    for (unsigned i = 0; i <= mounts->share_count; i++) {
        const struct mount *mount = mounts_get(mounts, i);
        const char *below = mounts_below(host, mount->host), *path;

        if (!below || (found && strlen(mount->host) < best))
            continue;
        path = run_options_format(options, "%s%s", i == 0 && *below ? "" : mount->guest, below);
        if (!path || !mounts_shows(mounts, mount, path))
            continue;
        found = path;
        best = strlen(mount->host);
    }
    return found;
}

static bool mounts_any_writable(const struct mounts *mounts)
{
    for (unsigned i = 0; i < mounts->share_count; i++)
        if (mounts->shares[i].writable)
            return true;
    return false;
}

/*
 * In another directory than the user's, a command could change files that the user does not mean.
 * Only with another root, and nothing writable, it starts in /, as with chroot(8).
 */
static int mounts_use_current(struct mounts *mounts, struct run_options *options)
{
    char here[PATH_MAX];
    struct stat current, named;

    if (!getcwd(here, sizeof(here)) || stat(".", &current) < 0 || stat(here, &named) < 0 ||
        current.st_dev != named.st_dev || current.st_ino != named.st_ino)
        return log_refuse(ENOENT, "the current directory was deleted, or something is mounted on "
                                  "it: name a directory of the guest with --cwd");
    mounts->cwd = mounts_guest_path(mounts, options, here);
    if (!mounts->cwd && options->root && !mounts_any_writable(mounts))
        mounts->cwd = "/";
    if (mounts->cwd)
        return 0;
    return log_refuse(ENOENT,
                      "the guest does not have the current directory: share it with --ro or --rw, "
                      "or name a directory of the guest with --cwd: %s",
                      here);
}

int mounts_read_cwd(const char **ret, struct run_options *options)
{
    char *given = options->cwd ? run_options_format(options, "%s", options->cwd) : NULL;

    if (options->cwd && !given)
        return -ENOMEM;
    if (given && !mounts_normalize(given))
        return log_refuse(EINVAL, "--cwd %s: must be an absolute path without '..'", options->cwd);
    *ret = given;
    return 0;
}

static int mounts_find_cwd(struct mounts *mounts, struct run_options *options)
{
    int error = mounts_read_cwd(&mounts->cwd, options);

    return error || mounts->cwd ? error : mounts_use_current(mounts, options);
}

/* Programs and places that distributions keep in /run, and links that lead out of it. */
static bool mounts_is_shown_in_run(int run, const char *name)
{
    static const char *const places[] = {
        "booted-system", "current-system",  "host",     "media",
        "opengl-driver", "setuid-programs", "wrappers",
    };
    char target[PATH_MAX];
    ssize_t length = readlinkat(run, name, target, sizeof(target) - 1);

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        if (!strcmp(name, places[i]))
            return true;
    if (length < 0)
        return false;
    target[length] = '\0';
    return *target == '/' ? !mounts_below(target, "/run") : !strncmp(target, "../", 3);
}

static int mounts_find_run(struct mounts *mounts, struct run_options *options)
{
    int fd = guest_file_open(mounts->root.host, "/run", O_DIRECTORY);
    DIR *run = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    unsigned most = 0, count = 0;

    while (run && readdir(run))
        most++;
    mounts->run = arena_alloc(&options->machine.arena, (most + 1) * sizeof(*mounts->run));
    if (run)
        rewinddir(run);
    while (run && mounts->run && count < most && (entry = readdir(run)))
        if (mounts_is_shown_in_run(fd, entry->d_name))
            mounts->run[count++] = run_options_format(options, "%s", entry->d_name);
    if (run)
        closedir(run);
    return mounts->run ? 0 : log_error(ENOMEM, "/run");
}

int mounts_find(struct mounts *ret, struct run_options *options)
{
    struct mounts mounts = { .root = { .guest = "/" } };
    int error;

    mounts.root.host = mounts_resolve(options, "root", options->root ? options->root : "/");
    if (!mounts.root.host)
        return -EINVAL;
    if ((error = mounts_find_shares(&mounts, options)) ||
        (error = mounts_find_run(&mounts, options)) || (error = mounts_find_cwd(&mounts, options)))
        return error;
    *ret = mounts;
    return 0;
}
