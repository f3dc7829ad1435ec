/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_PREFIX_H
#define VMM_RUN_PREFIX_H

#include <stdbool.h>

/*
 * Copies lines from one descriptor to another with a label before each, so that the output of
 * several machines can be told apart. Lines are never mixed, but a very long one is cut in pieces.
 * Holds back its source while nobody reads the other end. On the loop's thread.
 */
struct loop;
struct prefix;

/* Takes over `from`, which must be non-blocking; `to` stays the caller's. Prints; -errno. */
int prefix_create(struct prefix **ret, const char *label, int from, int to, struct loop *loop,
                  void (*ended)(void *owner), void *owner);
void prefix_destroy(struct prefix *prefix); /* accepts NULL */

/* The source is at its end, and all it had said is written; NULL: true. ended() follows it. */
bool prefix_ended(const struct prefix *prefix);

#endif
