/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_BUDGET_H
#define DEVICES_FS_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What all shares of a process together hold for its guest. Each takes what it needs; no share has
 * a part of its own, except the descriptors of the directories it uses.
 *
 * Each node and handle costs the guest more of its RAM, for an inode or an open file, than is
 * reckoned here. So only a guest that asks for more than it can hold meets the limit of objects.
 */
struct share_budget {
    struct budget_part {
        uint32_t used, max; /* `used` is atomic: the shares run on different threads */
    } objects,              /* nodes and handles */
        descriptors;        /* of open files */
    unsigned directories;   /* descriptors of them, for each share */
};

#define BUDGET_OWN_DESCRIPTORS 4u /* for open files, which each share has in any case */

/*
 * For `shares` shares of a guest with `ram` bytes. First raises RLIMIT_NOFILE to the hard limit,
 * and leaves a quarter of it to the rest of the process. -EMFILE: too few descriptors.
 */
int budget_init(struct share_budget *budget, uint64_t ram, unsigned shares);

/* False: none is left; the caller still has to put back what it did not get. */
bool budget_take(struct budget_part *part);
void budget_put(struct budget_part *part);

#endif
