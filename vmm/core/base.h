/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_BASE_H
#define VMM_CORE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* A feature bit, or any other, of 64. */
#define BIT(n) (1ull << (n))

/* The struct that holds `member`. Refuses a pointer of another type. */
#define container_of(ptr, type, member) \
    ((type *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))

/* Appends `item` to a list linked by `next`; `head` is where the pointer to its first item is. */
#define list_append(head, item)              \
    do {                                     \
        __typeof__(*(head)) *link_ = (head); \
                                             \
        while (*link_)                       \
            link_ = &(*link_)->next;         \
        *link_ = (item);                     \
    } while (0)

/* Round to a multiple of `unit`, a power of two. align_up() may wrap: check `value` before. */
static inline uint64_t align_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t unit)
{
    return align_down(value + unit - 1, unit);
}

#endif
