/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SLOTS_H
#define DEVICES_FS_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct state;

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

/*
 * Which places are free, and how often each was given away: so that new ids are new to whoever has
 * the old ones. Returns how many things there are. Loading: the table is a new one; what it holds
 * already stays, and so many in all must be put back, each by the id it had.
 */
uint32_t slots_state(struct slots *slots, struct state *s);
/* False: the id's place is free, or taken, or there is none. */
bool slots_put(struct slots *slots, uint64_t id, void *thing);

#endif
