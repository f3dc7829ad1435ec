/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_FUSE_H
#define DEVICES_FS_FUSE_H

#include <stdint.h>

#include "vmm/core/sg.h"

/*
 * FUSE's protocol (<linux/fuse.h>) as a server speaks it: one request in, at most one reply out,
 * done when the call returns. Nothing in a request is believed: a field is copied once, then
 * checked. Whatever would change a share that is read-only ends here, with EROFS.
 */
#define FUSE_SEGMENTS_MAX 256u /* pieces of one request or reply that are looked at */

struct fuse;
struct share;
struct state;

struct fuse *fuse_create(struct share *share); /* which outlives it; NULL: out of memory */
void fuse_destroy(struct fuse *fuse);          /* the share stays open */

void fuse_reset(struct fuse *fuse); /* the guest is gone: all it had is closed and forgotten */

/*
 * share_state(). What INIT agreed on is not part of it: the replies are the same, whatever a guest
 * takes of what it is offered. So a later server must go on with all that an earlier one offered.
 */
unsigned fuse_state(struct fuse *fuse, struct state *s);

/* Returns how many bytes of `reply` were written: 0 where the guest expects none. */
uint32_t fuse_serve(struct fuse *fuse, struct sg *request, struct sg *reply);

#endif
