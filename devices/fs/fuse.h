/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_FUSE_H
#define DEVICES_FS_FUSE_H

#include <stdint.h>

#include "vmm/core/sg.h"

/*
 * The server side of the FUSE protocol (<linux/fuse.h>): one request in, at most one reply out,
 * completed before fuse_serve() returns. Requests are untrusted: each field is copied once, then
 * checked. Requests that would change a read-only share are refused here, with EROFS.
 *
 * Not thread-safe: called by one thread at a time.
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

#endif
