/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_WARM_H
#define VMM_RUN_WARM_H

#include <stdbool.h>

#include "vmm/machine/snapshot.h"

/*
 * Warm machines: snapshots of guests that have booted and wait for a job, kept in
 * $XDG_CACHE_HOME/minivmm/warm (~/.cache), one directory for each kind of machine. What they are
 * kept by, the key, is a text of everything that is decided at boot; it stands beside the snapshot.
 * They are made aside and renamed, never written again, and the least recently used are removed
 * beyond a total size. Two makers of one at once are fine: the second's takes its place.
 */
struct warm {
    struct snapshot_files files; /* of one that is being made; state -1: none */
    int commit;                  /* a pipe: see warm_commit() */
};

/*
 * Opens the warm machine with this key. Says why it cannot at LOG_LEVEL_INFO, and returns -errno;
 * -ENOENT: there is none. snapshot_close() is due in any case.
 */
int warm_open(struct snapshot *ret, const char *key);

/*
 * Begins to make one, instead of one that warm_open() has refused: opens its files. A process of
 * its own keeps or removes them when this one commits or ends, as this one gives up its files
 * before the guest runs. With one thread. Says why it cannot at LOG_LEVEL_INFO; -errno.
 */
int warm_begin(struct warm *w, const char *key);

void warm_commit(struct warm *w); /* the files are complete */
void warm_close(struct warm *w);  /* after that, or instead: then nothing is kept */

/* Removes the one with this name, as warm_list() prints it, or "all". Prints; -errno. */
int warm_drop(const char *name);

/* Prints a line for each: name, size, last use, and its key. Prints errors; -errno. */
int warm_list(void);

#endif
