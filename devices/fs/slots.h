/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SLOTS_H
#define DEVICES_FS_SLOTS_H

#include <stdint.h>

/*
 * Things that a guest names by number. An id is the place in a table and how often that place was
 * given away before: one that was made up, or kept too long, finds nothing rather than somebody
 * else's thing. The first id of all is 1; none is 0.
 */
struct slots {
    struct slot *table;
    uint32_t count, capacity; /* places ever used, and allocated */
    uint32_t max;
    uint32_t free; /* the first free place, or SLOTS_NONE */
};

#define SLOTS_NONE UINT32_MAX

void slots_init(struct slots *slots, uint32_t max); /* at most `max` things at a time */
void slots_finish(struct slots *slots);             /* the things are the caller's */

uint64_t slots_add(struct slots *slots, void *thing);     /* its id; 0: full, or out of memory */
void *slots_find(const struct slots *slots, uint64_t id); /* NULL: nothing has this id */
void slots_remove(struct slots *slots, uint64_t id);      /* an id that finds something */

/* Any thing there is, or NULL: for emptying a table. `*place` begins at 0. */
void *slots_next(const struct slots *slots, uint32_t *place);

#endif
