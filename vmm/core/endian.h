/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_ENDIAN_H
#define VMM_CORE_ENDIAN_H

#include <endian.h>
#include <stdint.h>

/*
 * Little-endian integers in guest memory and in files. The guest may change them at any time, so a
 * load reads memory exactly once. They are structs so that the compiler rejects direct use as a
 * number.
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

/* For ring indices: writes before the store are visible after the load. */
static inline uint16_t le16_load_acquire(const le16 *p)
{
    return le16toh(__atomic_load_n(&p->raw, __ATOMIC_ACQUIRE));
}

static inline void le16_store_release(le16 *p, uint16_t value)
{
    __atomic_store_n(&p->raw, htole16(value), __ATOMIC_RELEASE);
}

#endif
