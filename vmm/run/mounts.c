/* SPDX-License-Identifier: MIT */
#include "vmm/run/mounts.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/arena.h"
#include "vmm/core/log.h"
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

static int mounts_compare(const void *a, const void *b)
{
    return strcmp(((const struct mount *)a)->guest, ((const struct mount *)b)->guest);
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
    for (unsigned i = 0; i < count && !error; i++)
        for (unsigned j = 0; j < count && !error; j++)
            if (i != j)
                error = mounts_check_pair(&mounts->shares[i], &mounts->shares[j]);
    if (!error)
        qsort(mounts->shares, count, sizeof(struct mount), mounts_compare);
    return error;
}

/* The guest path of a host directory, through the innermost share; "/" if not in any share. */
static const char *mounts_guest_path(const struct mounts *mounts, struct run_options *options,
                                     const char *host)
{
    const struct mount *best = mounts_below(host, mounts->root.host) ? &mounts->root : NULL;

    for (unsigned i = 0; i < mounts->share_count; i++) {
        const struct mount *mount = &mounts->shares[i];

        if (mounts_below(host, mount->host) && (!best || strlen(mount->host) >= strlen(best->host)))
            best = mount;
    }
    if (!best)
        return "/";
    host = mounts_below(host, best->host);
    if (!strcmp(best->guest, "/"))
        return *host ? host : "/";
    return run_options_format(options, "%s%s", best->guest, host);
}

static int mounts_find_cwd(struct mounts *mounts, struct run_options *options)
{
    char here[PATH_MAX];
    char *given = options->cwd ? run_options_format(options, "%s", options->cwd) : NULL;

    if (options->cwd && (!given || !mounts_normalize(given)))
        return log_refuse(EINVAL, "--cwd %s: must be an absolute path without '..'", options->cwd);
    mounts->cwd = given;
    if (!given)
        mounts->cwd =
            getcwd(here, sizeof(here))
                ? mounts_guest_path(mounts, options, run_options_format(options, "%s", here))
                : "/";
    return mounts->cwd ? 0 : -ENOMEM;
}

int mounts_find(struct mounts *ret, struct run_options *options)
{
    struct mounts mounts = { .root = { .guest = "/" } };
    int error;

    mounts.root.host = mounts_resolve(options, "root", options->root ? options->root : "/");
    if (!mounts.root.host)
        return -EINVAL;
    if ((error = mounts_find_shares(&mounts, options)) ||
        (error = mounts_find_cwd(&mounts, options)))
        return error;
    *ret = mounts;
    return 0;
}
