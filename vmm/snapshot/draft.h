/* SPDX-License-Identifier: MIT */
#ifndef VMM_SNAPSHOT_DRAFT_H
#define VMM_SNAPSHOT_DRAFT_H

#include <limits.h>
#include <stdbool.h>

/*
 * A snapshot's directory while it is made: aside, under a temporary name (0700, files 0600), and
 * renamed when it is complete. Whenever the process is killed, there is the old snapshot, or the
 * new one, or none; at worst DIR.XXXXXX is left beside it.
 */
#define DRAFT_SUFFIX 7 /* ".XXXXXX" */

struct draft {
    const char *path;                             /* for messages */
    int parent;                                   /* where it is; -1: not made */
    char name[NAME_MAX + 1], aside[NAME_MAX + 1]; /* in `parent` */
    int fd;                                       /* of `aside`; -1: not made, or committed */
};

/* Refuses a path where something else than a snapshot is. Prints; -errno. */
int draft_begin(struct draft *d, const char *path);

/* The same in an open directory, where whatever has this name is replaced. Copies nothing. */
int draft_begin_in(struct draft *d, int parent, const char *name);

/* Creates an empty file. Prints; the descriptor or -errno. */
int draft_create(struct draft *d, const char *name);

/* Gives the directory its name, once its files are on the disk (fsync()). Prints; -errno. */
int draft_commit(struct draft *d);

/* Leaves the files where they are, and says where. */
void draft_abandon(struct draft *d);

/* Closes it: another process has it, too, and goes on. */
void draft_leave(struct draft *d);

/* Removes what was not committed. Due in any case. */
void draft_finish(struct draft *d);

/* Removes a directory of files. False: something of it stays. */
bool draft_remove(int parent, const char *name);

#endif
