/* SPDX-License-Identifier: MIT */
#include "devices/fs/slots.h"

#include <stdlib.h>

#include "vmm/core/state.h"

#define SLOTS_LOADED (SLOTS_NONE - 1) /* next_free: taken, but its thing is not put back yet */

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

static uint64_t slots_id(const struct slots *slots, uint32_t place)
{
    return (uint64_t)slots->table[place].generation << 32 | (place + 1);
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
    return slots_id(slots, (uint32_t)(slot - slots->table));
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

static uint32_t slots_count_free(const struct slots *slots)
{
    uint32_t count = 0;

    for (uint32_t place = slots->free; place != SLOTS_NONE; place = slots->table[place].next_free)
        count++;
    return count;
}

/* Makes places for what is loaded. */
static bool slots_resize(struct slots *slots, uint32_t count)
{
    struct slot *table;

    if (count > slots->capacity) {
        table = realloc(slots->table, count * sizeof(*table));
        if (!table)
            return false;
        slots->table = table;
        slots->capacity = count;
    }
    while (slots->count < count)
        slots->table[slots->count++] = (struct slot){ .next_free = SLOTS_LOADED };
    return true;
}

/* The place of an id whose thing is yet to come; NULL. */
static struct slot *slots_at_loaded(const struct slots *slots, uint64_t id)
{
    uint32_t place = (uint32_t)id - 1;
    struct slot *slot = place < slots->count ? &slots->table[place] : NULL;

    return slot && !slot->thing && slot->next_free == SLOTS_LOADED ? slot : NULL;
}

static void slots_save_free(const struct slots *slots, struct state *s)
{
    for (uint32_t place = slots->free; place != SLOTS_NONE; place = slots->table[place].next_free) {
        uint64_t id = slots_id(slots, place);

        state_u64(s, "next_id", &id);
    }
}

static void slots_load_free(struct slots *slots, uint32_t count, struct state *s)
{
    uint32_t *link = &slots->free;

    for (uint64_t id = 0; count > 0; count--) {
        struct slot *slot;

        state_u64(s, "next_id", &id);
        slot = slots_at_loaded(slots, id);
        if (!slot)
            state_fail(s, "id %#llx cannot be free", (unsigned long long)id);
        if (s->error)
            return;
        slot->generation = (uint32_t)(id >> 32);
        slot->next_free = SLOTS_NONE;
        *link = (uint32_t)(slot - slots->table);
        link = &slot->next_free;
    }
}

uint32_t slots_state(struct slots *slots, struct state *s)
{
    uint32_t places = state_count(s, "places", slots->count, slots->max);
    uint32_t count_free;

    if (s->loading && !s->error && (places < slots->count || !slots_resize(slots, places)))
        state_fail(s, "%u places are too few, or too many", places);
    count_free = state_count(s, "free", slots_count_free(slots), places);
    if (s->loading)
        slots_load_free(slots, count_free, s);
    else
        slots_save_free(slots, s);
    return s->error ? 0 : places - count_free;
}

bool slots_put(struct slots *slots, uint64_t id, void *thing)
{
    struct slot *slot = slots_at_loaded(slots, id);

    if (!slot)
        return false;
    slot->thing = thing;
    slot->generation = (uint32_t)(id >> 32);
    return true;
}
