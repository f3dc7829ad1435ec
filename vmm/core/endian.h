/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_ENDIAN_H
#define VMM_CORE_ENDIAN_H

#include <endian.h>
#include <stdint.h>

/*
 * Integers as they lie in guest memory and in files: little-endian, and for guest memory free to
 * change under us. They are structs so that none is used as a number by accident; a load reads
 * memory exactly once.
 */
typedef struct {
    uint16_t raw;
} le16;
typedef struct {
    uint32_t raw;
} le32;
typedef struct {
    uint64_t raw;
} le64;

static inline uint16_t le16_load(const le16 *p)
{
    return le16toh(__atomic_load_n(&p->raw, __ATOMIC_RELAXED));
}

static inline uint32_t le32_load(const le32 *p)
{
    return le32toh(__atomic_load_n(&p->raw, __ATOMIC_RELAXED));
}

static inline uint64_t le64_load(const le64 *p)
{
    return le64toh(__atomic_load_n(&p->raw, __ATOMIC_RELAXED));
}

static inline void le16_store(le16 *p, uint16_t value)
{
    __atomic_store_n(&p->raw, htole16(value), __ATOMIC_RELAXED);
}

static inline void le32_store(le32 *p, uint32_t value)
{
    __atomic_store_n(&p->raw, htole32(value), __ATOMIC_RELAXED);
}

static inline void le64_store(le64 *p, uint64_t value)
{
    __atomic_store_n(&p->raw, htole64(value), __ATOMIC_RELAXED);
}

/* Ring indices: what was written before the store is visible after the load. */
static inline uint16_t le16_load_acquire(const le16 *p)
{
    return le16toh(__atomic_load_n(&p->raw, __ATOMIC_ACQUIRE));
}

static inline void le16_store_release(le16 *p, uint16_t value)
{
    __atomic_store_n(&p->raw, htole16(value), __ATOMIC_RELEASE);
}

#endif
