/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_ABSENT_H
#define DEVICES_FS_ABSENT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"

/*
 * For a share below an overlay in the guest. An overlay never asks its lower filesystem again about
 * a name that was absent, and does not expect one to vanish or to change its type. When the host
 * makes such a change, the guest must therefore drop the names it has cached: the line "names"
 * tells its init (see firmware/init/job.h).
 *
 * The directories in which a name was absent are watched by inotify. When one of them changes, or
 * there are too many, all watches end and the guest drops its names; what it then asks again is
 * watched again.
 *
 * On the share's loop, after absent_init().
 */
struct absent {
    struct loop *loop;
    int port;             /* for that line, borrowed; -1: no overlay, nothing is watched */
    struct watch inotify; /* fd -1: nothing is watched */
    struct watch timer;   /* runs between two announcements */
    unsigned announce;    /* so many more times */
    uint32_t round;       /* incremented when all watches end; never 0 */
    uint32_t count;       /* of watches in this round */
};

int absent_init(struct absent *absent, struct loop *loop, int port); /* 0, or prints; -errno */
void absent_finish(struct absent *absent);

/*
 * A name in this directory is absent. `*round` belongs to the directory and starts at 0: the round
 * in which it was last watched. True: it is watched from now on, and the name may have appeared
 * before that.
 */
bool absent_watch(struct absent *absent, int directory_fd, uint32_t *round);

/* A name vanished or changed its type: the guest must drop the names it has cached. */
void absent_announce(struct absent *absent);

#endif
