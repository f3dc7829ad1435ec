/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_OWNER_H
#define DEVICES_FS_OWNER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices/fs/share.h"

/*
 * Owners and set-ID bits of a share's files, as the guest sees them.
 *
 * If the process runs as root, ids are the host's. Otherwise it can neither give files away nor
 * own other users' files: then the files of the process's user belong, in the guest, to one user
 * of the guest, and those of its group to that user's group; other ids are the host's. An owner
 * that the host refuses is remembered: in memory, until the share is closed.
 *
 * Set-ID bits of files are always remembered, never set on the host, where other users could run
 * what the guest leaves there.
 *
 * Remembers at most OWNERS_MAX files. Thread-safe, except for init, finish and state.
 */
#define OWNERS_MAX (1u << 18)
#define OWNER_KEEP UINT32_MAX /* an id that is not to be changed, as of chown() */

struct identity;
struct state;

struct owners {
    const char *path;              /* of the share, for messages; borrowed */
    uint32_t uid, gid;             /* the process's */
    uint32_t guest_uid, guest_gid; /* what the guest is shown for these */

    pthread_mutex_t lock; /* for what follows */
    struct owner *table;  /* of the files remembered */
    uint32_t *buckets;    /* hash table of indices into `table`, of as many elements */
    uint32_t count, capacity;
    bool told_full, told_set_id;
};

void owners_init(struct owners *owners, const struct share_options *options);
void owners_finish(struct owners *owners);

/* Replaces the host's owner and mode in `attr` by those that the guest is shown. */
void owners_show(struct owners *owners, struct statx *attr);

/*
 * chown() of the file of a descriptor, which may be O_PATH, to ids of the guest. Clears the set-ID
 * bits of all but directories. -ENOSPC: nothing more can be remembered, logged once.
 */
int owners_set(struct owners *owners, int fd, uint32_t uid, uint32_t gid);

/* After chmod(): remembers those set-ID bits of `mode` that the host's file does not have. */
int owners_set_mode(struct owners *owners, int fd, mode_t mode);

/* Clears the set-ID bits of an open file that an ordinary user of the guest has written to. */
void owners_written(struct owners *owners, int fd);

/* A file that was just created. */
struct owner_created {
    int directory;         /* where; a descriptor */
    int fd;                /* the file's, from O_EXCL; -1: it was made by name */
    const char *name;      /* if `fd` is -1 */
    mode_t mode;           /* asked for, with the file's type */
    struct timespec since; /* CLOCK_REALTIME_COARSE before it was made, if `fd` is -1 */
};

/*
 * `user` created the file. Also gives it to that user on the host, if the process may do so, and
 * if it certainly is that file: a user of the host may have put another one in its place.
 */
void owners_created(struct owners *owners, const struct owner_created *created,
                    const struct share_user *user);

/* The file with these attributes, as on the host, no longer exists. */
void owners_forget(struct owners *owners, const struct statx *attr);

/* Saves or loads what is remembered. `root` is the identity of the share's root. */
void owners_state(struct owners *owners, const struct identity *root, struct state *s);

#endif
