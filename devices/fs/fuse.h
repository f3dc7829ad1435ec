/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_FUSE_H
#define DEVICES_FS_FUSE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/sg.h"

/*
 * The server side of the FUSE protocol (<linux/fuse.h>): one request in, at most one reply out,
 * completed before fuse_serve() returns. Requests are untrusted: each field is copied once, then
 * checked. Requests that would change a read-only share are refused here, with EROFS.
 *
 * On the share's loop, which is released while the host lets a request wait: meanwhile others may
 * be served.
 */
#define FUSE_SEGMENTS_MAX 256u /* data segments used of one request or reply */

struct fuse;
struct share;
struct state;

/* `share` is borrowed and must outlive the server. NULL: out of memory. */
struct fuse *fuse_create(struct share *share);
void fuse_destroy(struct fuse *fuse); /* does not close the share */

/* Closes and forgets all that the guest had open or looked up. */
void fuse_reset(struct fuse *fuse);

/*
 * See share_state(). What INIT negotiated is not saved: the replies do not depend on it. Future
 * versions must therefore support every feature that an earlier version offered.
 */
unsigned fuse_state(struct fuse *fuse, struct state *s);

/* Handles one request. Returns the bytes written to `reply`, 0 if the request has no reply. */
uint32_t fuse_serve(struct fuse *fuse, struct sg *request, struct sg *reply);

/* What a request waits for if it takes long. */
struct fuse_target {
    uint64_t device, node;
    bool lookup; /* of a name in the node, which may be a mount point */
    uint64_t name_hash;
};

/* Before fuse_serve(). False: the request never waits. */
bool fuse_target(const struct fuse *fuse, const struct sg *request, struct fuse_target *ret);

#endif
