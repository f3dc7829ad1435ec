/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_LANDLOCK_H
#define VMM_CORE_LANDLOCK_H

#include <stdbool.h>

/* A directory that remains accessible, with all that is beneath it. */
struct landlock_tree {
    int fd; /* may be O_PATH */
    bool writable;
};

/*
 * From now on the calling thread, and threads it creates, can open no file but those beneath
 * `trees`, and execute none. Where the host knows how: no TCP, no abstract socket of a process
 * outside. Descriptors that are open remain usable. Needs no_new_privs. Prints nothing;
 * -errno: the host has no Landlock, or one that cannot rename between directories (-EOPNOTSUPP) if
 * a tree is writable.
 */
int landlock_restrict(const struct landlock_tree *trees, unsigned count);

#endif
