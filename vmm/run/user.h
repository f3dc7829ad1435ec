/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_USER_H
#define VMM_RUN_USER_H

#include <stdint.h>

/* Who runs the command in the guest, and with which environment. All memory is the command's. */

struct command;

struct user {
    uint32_t uid, gid;
    const uint32_t *groups; /* supplementary */
    unsigned group_count;
    const char *name;
    const char *home; /* NULL: that of minivmm's user */
};

/* By --user and the files etc/passwd and etc/group in `root`. Prints what is wrong; -errno. */
int user_find(struct user *ret, struct command *command, const char *root);

/* NAME=VALUE each, NULL at the end. NULL: out of memory, after a message. */
const char *const *user_environment(struct command *command, const struct user *user);

#endif
