/* SPDX-License-Identifier: MIT */
#ifndef VMM_SNAPSHOT_DIRECTORY_H
#define VMM_SNAPSHOT_DIRECTORY_H

/*
 * A snapshot's directory while it is made: aside, under a temporary name (0700, files 0600), and
 * renamed when it is complete. Whenever the process is killed, there is the old snapshot, or the
 * new one, or none; at worst DIR.XXXXXX is left beside it.
 */
struct directory {
    const char *path;
    char aside[4096];
    int fd; /* of `aside`; -1: not made */
};

/* Refuses a path where something else than a snapshot is. Prints; -errno. */
int directory_begin(struct directory *d, const char *path);

/* Creates an empty file. Prints; the descriptor or -errno. */
int directory_create(struct directory *d, const char *name);

/* Gives the directory its name, once its files are on the disk (fsync()). Prints; -errno. */
int directory_commit(struct directory *d);

/* Leaves the files where they are, and says where. */
void directory_abandon(struct directory *d);

/* Removes what was not committed. Due in any case. */
void directory_finish(struct directory *d);

#endif
