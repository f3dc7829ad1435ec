/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/unit/driver.h"

/* What fuzz targets have in common. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails the run. */
static inline void demand(bool truth)
{
    if (!truth)
        abort();
}

/* What is left of the input. */
struct input {
    const uint8_t *data;
    size_t size;
};

/* The next `bytes` bytes as a number, or 0 at the end of the input. */
static inline uint32_t take(struct input *in, unsigned bytes)
{
    uint32_t value = 0;

    if (in->size < bytes)
        in->size = 0;
    for (unsigned i = 0; i < bytes && in->size > 0; i++, in->size--)
        value |= (uint32_t)*in->data++ << 8 * i;
    return value;
}

/*
 * At the begin of a run. All runs of the process use the same driver, memory and loop, because to
 * create them costs more than most runs. Returns true for the first run, else clears memory.
 */
static inline bool begin_driver(struct driver *d)
{
    if (d->mem) {
        guest_memory_clear(d->mem);
        return false;
    }
    driver_init(d);
    madvise(driver_ram(d, 0), DRIVER_RAM, MADV_NOHUGEPAGE);
    return true;
}

#endif
