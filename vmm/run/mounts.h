/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_MOUNTS_H
#define VMM_RUN_MOUNTS_H

#include <stdbool.h>

/* Where the guest has what of the host's directories. All texts are the command's. */

struct command;

struct place {
    const char *host;  /* without symbolic links */
    const char *guest; /* absolute, without . and .., "/" or no slash at the end */
    bool writable;
};

struct places {
    struct place root;
    struct place *shares; /* a directory comes before those in it: the order of mounting */
    unsigned share_count;
    const char *cwd; /* in the guest */
};

/* Prints what is wrong; -errno. */
int places_find(struct places *ret, struct command *command);

/* What is left of `path` below `directory`: "" or "/..."; NULL: it is not below. */
const char *places_below(const char *path, const char *directory);

#endif
