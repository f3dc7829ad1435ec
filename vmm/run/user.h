/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_USER_H
#define VMM_RUN_USER_H

#include <stdint.h>

/* The user who runs the command in the guest, and the environment. The options own all memory. */

struct run_options;

struct user {
    uint32_t uid, gid;
    const uint32_t *groups; /* supplementary */
    unsigned group_count;
    const char *name;
    const char *home; /* NULL: the value of HOME on the host */
};

/* Looks --user up in the files etc/passwd and etc/group below `root`. Prints errors; -errno. */
int user_find(struct user *ret, struct run_options *options, const char *root);

/* Returns strings NAME=VALUE, ended by NULL. Out of memory: NULL, after a message. */
const char *const *user_environment(struct run_options *options, const struct user *user);

#endif
