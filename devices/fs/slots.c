/* SPDX-License-Identifier: MIT */
#include "devices/fs/slots.h"

#include <stdlib.h>

struct slot {
    void *thing; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

void slots_init(struct slots *slots, uint32_t max)
{
    *slots = (struct slots){ .max = max, .free = SLOTS_NONE };
}

void slots_finish(struct slots *slots)
{
    free(slots->table);
    slots_init(slots, slots->max);
}

static struct slot *slots_grow(struct slots *slots)
{
    uint32_t capacity = slots->capacity ? slots->capacity : 32;
    struct slot *table;

    if (slots->count == slots->max)
        return NULL;
    if (slots->count == slots->capacity) {
        capacity = capacity > slots->max / 2 ? slots->max : 2 * capacity;
        table = realloc(slots->table, capacity * sizeof(*table));
        if (!table)
            return NULL;
        slots->table = table;
        slots->capacity = capacity;
    }
    slots->table[slots->count] = (struct slot){ 0 };
    return &slots->table[slots->count++];
}

uint64_t slots_add(struct slots *slots, void *thing)
{
    struct slot *slot;

    if (slots->free != SLOTS_NONE) {
        slot = &slots->table[slots->free];
        slots->free = slot->next_free;
    } else {
        slot = slots_grow(slots);
    }
    if (!slot)
        return 0;
    slot->thing = thing;
    return (uint64_t)slot->generation << 32 | (uint32_t)(slot - slots->table + 1);
}

static struct slot *slots_at(const struct slots *slots, uint64_t id)
{
    uint32_t place = (uint32_t)id - 1; /* of 0: past every table */

    if (place >= slots->count || slots->table[place].generation != id >> 32)
        return NULL;
    return &slots->table[place];
}

void *slots_find(const struct slots *slots, uint64_t id)
{
    const struct slot *slot = slots_at(slots, id);

    return slot ? slot->thing : NULL;
}

void slots_remove(struct slots *slots, uint64_t id)
{
    struct slot *slot = slots_at(slots, id);

    slot->thing = NULL;
    slot->generation++;
    slot->next_free = slots->free;
    slots->free = (uint32_t)(slot - slots->table);
}

void *slots_next(const struct slots *slots, uint32_t *place)
{
    while (*place < slots->count) {
        void *thing = slots->table[(*place)++].thing;

        if (thing)
            return thing;
    }
    return NULL;
}
