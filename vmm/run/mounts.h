/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_MOUNTS_H
#define VMM_RUN_MOUNTS_H

#include <stdbool.h>

/*
 * Which host directories the guest gets, where, and the command's working directory. All strings
 * live as long as the options.
 */

struct run_options;

struct mount {
    const char *host;  /* real path */
    const char *guest; /* absolute, without . and ..; "/", or no slash at the end */
    bool writable;
};

struct mounts {
    struct mount root;
    struct mount *shares; /* sorted by guest path, which is the order of mounting */
    unsigned share_count;
    const char **run; /* what to show of the root's /run; ends with NULL */
    const char *cwd;  /* in the guest */
};

/*
 * Resolves --root, --ro, --rw and --cwd. Refuses if the guest does not show the current directory,
 * which is the default of --cwd. Whether the guest has the directory that --cwd names only the
 * guest knows. Prints errors; -errno.
 */
int mounts_find(struct mounts *ret, struct run_options *options);

/* Only --cwd; NULL: not given. */
int mounts_read_cwd(const char **ret, struct run_options *options);

/* The rest of `path` below `directory`: "" or "/..."; NULL: it is not below. */
const char *mounts_below(const char *path, const char *directory);

#endif
