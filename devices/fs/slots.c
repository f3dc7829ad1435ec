/* SPDX-License-Identifier: MIT */
#include "devices/fs/slots.h"

#include <stdlib.h>

#include "vmm/core/state.h"

#define SLOTS_RESERVED (SLOTS_NONE - 1) /* next_free: in use, but not yet restored */

struct slot {
    void *object; /* NULL: free */
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

static uint64_t slots_id(const struct slots *slots, uint32_t index)
{
    return (uint64_t)slots->table[index].generation << 32 | (index + 1);
}

uint64_t slots_add(struct slots *slots, void *object)
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
    slot->object = object;
    return slots_id(slots, (uint32_t)(slot - slots->table));
}

static struct slot *slots_at(const struct slots *slots, uint64_t id)
{
    uint32_t index = (uint32_t)id - 1; /* id 0: past the end of any table */

    if (index >= slots->count || slots->table[index].generation != id >> 32)
        return NULL;
    return &slots->table[index];
}

void *slots_find(const struct slots *slots, uint64_t id)
{
    const struct slot *slot = slots_at(slots, id);

    return slot ? slot->object : NULL;
}

void slots_remove(struct slots *slots, uint64_t id)
{
    struct slot *slot = slots_at(slots, id);

    slot->object = NULL;
    slot->generation++;
    slot->next_free = slots->free;
    slots->free = (uint32_t)(slot - slots->table);
}

void *slots_next(const struct slots *slots, uint32_t *cursor)
{
    while (*cursor < slots->count) {
        void *object = slots->table[(*cursor)++].object;

        if (object)
            return object;
    }
    return NULL;
}

static uint32_t slots_count_free(const struct slots *slots)
{
    uint32_t count = 0;

    for (uint32_t index = slots->free; index != SLOTS_NONE; index = slots->table[index].next_free)
        count++;
    return count;
}

/* Grows the table to `count` slots, the new ones reserved. */
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
        slots->table[slots->count++] = (struct slot){ .next_free = SLOTS_RESERVED };
    return true;
}

/* The reserved slot of an id; NULL: it is not reserved. */
static struct slot *slots_reserved_at(const struct slots *slots, uint64_t id)
{
    uint32_t index = (uint32_t)id - 1;
    struct slot *slot = index < slots->count ? &slots->table[index] : NULL;

    return slot && !slot->object && slot->next_free == SLOTS_RESERVED ? slot : NULL;
}

static void slots_save_free(const struct slots *slots, struct state *s)
{
    for (uint32_t index = slots->free; index != SLOTS_NONE; index = slots->table[index].next_free) {
        uint64_t id = slots_id(slots, index);

        state_u64(s, "next_id", &id);
    }
}

static void slots_load_free(struct slots *slots, uint32_t count, struct state *s)
{
    uint32_t *link = &slots->free;

    for (uint64_t id = 0; count > 0; count--) {
        struct slot *slot;

        state_u64(s, "next_id", &id);
        slot = slots_reserved_at(slots, id);
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
        state_fail(s, "%u slots are too few or too many", places);
    count_free = state_count(s, "free", slots_count_free(slots), places);
    if (s->loading)
        slots_load_free(slots, count_free, s);
    else
        slots_save_free(slots, s);
    return s->error ? 0 : places - count_free;
}

bool slots_restore(struct slots *slots, uint64_t id, void *object)
{
    struct slot *slot = slots_reserved_at(slots, id);

    if (!slot)
        return false;
    slot->object = object;
    slot->generation = (uint32_t)(id >> 32);
    return true;
}
