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

/* Bit `n` of a 64-bit value. */
#define BIT(n) (1ull << (n))

/* The struct that contains `member`. Does not compile if `ptr` has another type. */
#define container_of(ptr, type, member) \
    ((type *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))

/* Appends `item` to a list linked by `next`; `head` points to the list's first pointer. */
#define list_append(head, item)              \
    do {                                     \
        __typeof__(*(head)) *link_ = (head); \
                                             \
        while (*link_)                       \
            link_ = &(*link_)->next;         \
        *link_ = (item);                     \
    } while (0)

/*
 * A large variable of a function that runs for each request: the compiler need not zero it, as it
 * does with all others (-ftrivial-auto-var-init). Only what was written is read.
 */
#if __has_attribute(uninitialized)
#define UNINITIALIZED __attribute__((uninitialized))
#else
#define UNINITIALIZED
#endif

/* FNV-1a, continued from `hash`. */
static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *byte = bytes;

    while (size-- > 0)
        hash = (hash ^ *byte++) * 0x100000001b3u;
    return hash;
}

/* Round to a multiple of `unit`, a power of two. align_up() may wrap: check `value` first. */
static inline uint64_t align_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t unit)
{
    return align_down(value + unit - 1, unit);
}

#endif
