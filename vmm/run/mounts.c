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

const char *places_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    if (!strcmp(directory, "/"))
        return strcmp(path, "/") != 0 ? path : "";
    if (strncmp(path, directory, length) != 0 || (path[length] && path[length] != '/'))
        return NULL;
    return path + length;
}

/* A directory of the host, by its real name. */
static const char *places_directory(struct command *command, const char *option, const char *path)
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
    return command_format(command, "%s", real);
}

/* Takes out doubled slashes and "."; false: it is not absolute, or has a "..". */
static bool places_normalize(char *path)
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

/* DIR or DIR:GUESTDIR: cuts the latter off. */
static char *places_cut(char *text)
{
    char *colon = strrchr(text, ':');

    if (!colon || colon[1] != '/')
        return NULL;
    *colon = '\0';
    return colon + 1;
}

static int places_read(struct place *place, struct command *command, const struct place *root,
                       const struct command_word *word)
{
    const char *option = word->writable ? "rw" : "ro", *below;
    char *host = command_format(command, "%s", word->text);
    char *guest = host ? places_cut(host) : NULL;

    place->writable = word->writable;
    place->host = host ? places_directory(command, option, host) : NULL;
    if (!place->host)
        return -EINVAL;
    below = places_below(place->host, root->host);
    if (!guest)
        guest = command_format(command, "%s", below && *below ? below : place->host);
    if (!guest)
        return -ENOMEM;
    if (!places_normalize(guest))
        return log_refuse(EINVAL, "--%s %s: no .. in the guest's directory", option, word->text);
    if (!strcmp(guest, "/"))
        return log_refuse(EINVAL, "--%s %s: the guest's / is for --root", option, word->text);
    place->guest = guest;
    return 0;
}

/* Two cannot be in one place, and what the guest may write it must not have been told to leave. */
static int places_check(const struct place *a, const struct place *b)
{
    if (!strcmp(a->guest, b->guest))
        return log_refuse(EINVAL, "--ro, --rw: two directories at the guest's %s: %s and %s",
                          a->guest, a->host, b->host);
    if (a->writable && !b->writable && places_below(b->host, a->host))
        return log_refuse(EINVAL, "--ro %s: the guest can write to it by --rw %s", b->host,
                          a->host);
    return 0;
}

static int places_compare(const void *a, const void *b)
{
    return strcmp(((const struct place *)a)->guest, ((const struct place *)b)->guest);
}

static int places_find_shares(struct places *places, struct command *command)
{
    unsigned count = 0;
    int error = 0;

    for (struct command_word *word = command->shares; word; word = word->next)
        count++;
    places->shares = arena_alloc(&command->machine.arena, (count + 1) * sizeof(struct place));
    if (!places->shares)
        return log_error(ENOMEM, "--ro, --rw");
    for (struct command_word *word = command->shares; word && !error; word = word->next)
        error = places_read(&places->shares[places->share_count++], command, &places->root, word);
    for (unsigned i = 0; i < count && !error; i++)
        for (unsigned j = 0; j < count && !error; j++)
            if (i != j)
                error = places_check(&places->shares[i], &places->shares[j]);
    if (!error)
        qsort(places->shares, count, sizeof(struct place), places_compare);
    return error;
}

/* Where the guest has a directory of the host: by the innermost that holds it. */
static const char *places_guest_name(const struct places *places, struct command *command,
                                     const char *host)
{
    const struct place *best = places_below(host, places->root.host) ? &places->root : NULL;

    for (unsigned i = 0; i < places->share_count; i++) {
        const struct place *place = &places->shares[i];

        if (places_below(host, place->host) && (!best || strlen(place->host) >= strlen(best->host)))
            best = place;
    }
    if (!best)
        return "/";
    host = places_below(host, best->host);
    if (!strcmp(best->guest, "/"))
        return *host ? host : "/";
    return command_format(command, "%s%s", best->guest, host);
}

static int places_find_cwd(struct places *places, struct command *command)
{
    char here[PATH_MAX];
    char *given = command->cwd ? command_format(command, "%s", command->cwd) : NULL;

    if (command->cwd && (!given || !places_normalize(given)))
        return log_refuse(EINVAL, "--cwd %s: must be an absolute path without '..'", command->cwd);
    places->cwd = given;
    if (!given)
        places->cwd = getcwd(here, sizeof(here))
                          ? places_guest_name(places, command, command_format(command, "%s", here))
                          : "/";
    return places->cwd ? 0 : -ENOMEM;
}

int places_find(struct places *ret, struct command *command)
{
    struct places places = { .root = { .guest = "/" } };
    int error;

    places.root.host = places_directory(command, "root", command->root ? command->root : "/");
    if (!places.root.host)
        return -EINVAL;
    if ((error = places_find_shares(&places, command)) ||
        (error = places_find_cwd(&places, command)))
        return error;
    *ret = places;
    return 0;
}
