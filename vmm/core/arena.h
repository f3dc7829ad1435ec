/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_ARENA_H
#define VMM_CORE_ARENA_H

#include <stddef.h>

/* Allocations that are freed together. A zeroed arena is empty. */
struct arena {
    struct arena_block *blocks;
};

/* Allocates `size` zeroed bytes, aligned for any type, until arena_free(). NULL: out of memory. */
void *arena_alloc(struct arena *arena, size_t size);

/* Frees every allocation. The arena may be used again. */
void arena_free(struct arena *arena);

#endif
