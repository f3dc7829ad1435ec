/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_GUARD_H
#define DEVICES_FS_GUARD_H

#include <stdbool.h>

/*
 * What the guest may leave in a guarded directory, where people and programs of the host will walk:
 * nothing that leads them out of it, and nothing that their terminal would obey.
 */

/* A name, or a link's target: without control characters, in ASCII or UTF-8. */
bool guard_text_ok(const char *text);

/*
 * Whether a link in a directory `depth` levels below the share's root can only lead beneath the
 * root: it is relative, and climbs no higher. ".." behind a name is refused, as the name may be
 * another link.
 */
bool guard_target_ok(const char *target, unsigned depth);

#endif
