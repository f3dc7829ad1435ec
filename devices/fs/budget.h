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
    uint32_t objects_max;                  /* nodes and handles */
    unsigned descriptors_max, directories; /* of open files; of directories, for each share */

    /* In use. Atomic: the shares run on different threads. */
    uint32_t objects;
    unsigned descriptors;
};

#define BUDGET_OWN_DESCRIPTORS 4u /* for open files, which each share has in any case */

/*
 * For `shares` shares of a guest with `ram` bytes. First raises RLIMIT_NOFILE to the hard limit,
 * and leaves a quarter of it to the rest of the process. -EMFILE: too few descriptors.
 */
int budget_init(struct share_budget *budget, uint64_t ram, unsigned shares);

/* False: none is left; the caller still has to put back what it did not get. */
bool budget_take_object(struct share_budget *budget);
void budget_put_object(struct share_budget *budget);
bool budget_take_descriptor(struct share_budget *budget);
void budget_put_descriptor(struct share_budget *budget);

#endif
