/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_WARM_H
#define VMM_RUN_WARM_H

#include <stdbool.h>

#include "vmm/machine/snapshot.h"

struct config;

/*
 * Warm machines: snapshots of guests that wait for a job, kept in the user's cache, one directory
 * each: memory, state, and a text. There are two kinds.
 *
 * WARM_KEYED, in minivmm/warm: booted, and nothing else. The text is the key, which says all that
 * is decided at boot; the name is made of it. The least recently used are removed beyond a total
 * size, as each can be made anew.
 *
 * WARM_NAMED, in minivmm/named: prepared by a command of the user's, who has named them and alone
 * removes them. The text is for whoever starts from them, and so is the configuration. Both are
 * written, and closed, before the guest runs: files that are opened for a machine, with all rights
 * of the user's, must not be chosen by what a guest may have made of the process that saves it.
 *
 * They are made aside, renamed when complete, and never written again. Any number of processes may
 * make the same one: the last one's is kept.
 */
enum warm_kind { WARM_KEYED, WARM_NAMED, WARM_KINDS };

/* How the text of a named one begins, and how scanf(3) finds the kernel's version in it. */
#define WARM_TEXT_FORMAT  "kernel %s; root %s;"
#define WARM_TEXT_VERSION "kernel %63[^;];"

#define WARM_TEXT_MAX  16384 /* with the terminating 0 */
#define WARM_NAME_SIZE 65    /* likewise */

struct warm {
    struct snapshot_files files; /* of one that is being made */
    int keeper;                  /* a socket: see warm_commit() */
};

void warm_key_name(char ret[WARM_NAME_SIZE], const char *key);
bool warm_is_name(const char *name); /* may the user give this name? */

/*
 * Opens the one with this name, reads its text, and loads the configuration of a named one, into
 * `config` with its defaults; NULL: it is a keyed one. The configuration in the state is passed
 * over. Prints; -errno, -ENOENT: there is none. snapshot_close() is due in any case.
 */
int warm_open(struct snapshot *ret, char text[WARM_TEXT_MAX], struct config *config,
              enum warm_kind kind, const char *name);

/*
 * Begins to make one, in the place of any other with this name: opens its files. A process of its
 * own keeps or removes them when this one commits or ends, as this one gives up its files before
 * the guest runs. `config` as in warm_open(). With one thread. Prints; -errno.
 */
int warm_begin(struct warm *w, enum warm_kind kind, const char *name, const char *text,
               struct config *config);

/* The files are complete. `wait`: until they have their name. Prints nothing; -errno. */
int warm_commit(struct warm *w, bool wait);
void warm_close(struct warm *w); /* after that, or instead: then nothing is kept */

/* Removes the one with this name, as warm_list() prints it, or "all". Prints; -errno. */
int warm_drop(const char *name);

/* Prints a line for each: name, size, last use, and its text. Prints errors; -errno. */
int warm_list(void);

/* Of the two files that implement this. */
int warm_open_cache(enum warm_kind kind);                    /* prints; -errno */
int warm_read_text(char text[WARM_TEXT_MAX], int directory); /* prints nothing; -errno */
int warm_report_missing(const char *name);                   /* prints; -ENOENT */

/* Removes what nobody completes any more, and the least recently used but the newest. */
void warm_prune(enum warm_kind kind, const char *newest);

#endif
