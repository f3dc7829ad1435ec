/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_PREFIX_H
#define VMM_RUN_PREFIX_H

#include <stdbool.h>

/*
 * Copies lines from one descriptor to another and puts a label before each, to distinguish the
 * output of several machines. Lines of different machines are never mixed; a line longer than
 * PIPE_BUF is split. Does not read while the output is blocked. On the loop's thread.
 */
struct loop;
struct prefix;

/*
 * Owns and closes `from`, which must be non-blocking; `to` and `label` stay the caller's. Calls
 * ended() on the loop. Prints errors; -errno, and `from` is still the caller's.
 */
int prefix_create(struct prefix **ret, const char *label, int from, int to, struct loop *loop,
                  void (*ended)(void *owner), void *owner);
void prefix_destroy(struct prefix *prefix); /* accepts NULL */

/* True when `from` is at its end and everything has been written; true for NULL. */
bool prefix_ended(const struct prefix *prefix);

#endif
