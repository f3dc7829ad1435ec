/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SLOTS_H
#define DEVICES_FS_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

struct state;

/*
 * A table of objects that the guest names by id. An id is a table index plus the generation of that
 * slot, so a forged or stale id finds nothing rather than another object. The first id is 1; 0 is
 * never one. Not thread-safe.
 */
struct slots {
    struct slot *table;
    uint32_t count, capacity; /* slots ever used, and allocated */
    uint32_t max;
    uint32_t free; /* index of the first free slot, or SLOTS_NONE */
};

#define SLOTS_NONE UINT32_MAX

void slots_init(struct slots *slots, uint32_t max); /* holds at most `max` objects */
void slots_finish(struct slots *slots);             /* does not free the objects */

uint64_t slots_add(struct slots *slots, void *object);    /* its id; 0: full, or out of memory */
void *slots_find(const struct slots *slots, uint64_t id); /* NULL: no object has this id */
void slots_remove(struct slots *slots, uint64_t id);      /* `id` must be in use */

/* Iterates: the next object, or NULL. `*cursor` starts at 0. Objects may be removed meanwhile. */
void *slots_next(const struct slots *slots, uint32_t *cursor);

/*
 * Saves or loads which slots are free and their generations, so that new ids differ from all that
 * the guest may still have. Returns the number of objects. A table is loaded when new, and may hold
 * objects already; the caller then puts back the others with slots_restore().
 */
uint32_t slots_state(struct slots *slots, struct state *s);

/* Puts an object back under the id it was saved with. False: that slot is free, in use or none. */
bool slots_restore(struct slots *slots, uint64_t id, void *object);

#endif
