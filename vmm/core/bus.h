/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_BUS_H
#define VMM_CORE_BUS_H

#include <stdint.h>

/*
 * A register access. Called on vCPU threads, several at once. `offset` counts from the region's
 * start, `size` is 1, 2, 4 or 8 bytes, and the access lies inside the region.
 */
struct io_ops {
    uint64_t (*read)(void *owner, uint64_t offset, unsigned size);
    void (*write)(void *owner, uint64_t offset, unsigned size, uint64_t value);
};

/* A region of device registers. Embedded in its device, which outlives the bus. */
struct io_region {
    const char *name;
    uint64_t base;
    uint64_t size; /* bytes */
    const struct io_ops *ops;
    void *owner;       /* first argument of `ops` */
    uint64_t accesses; /* atomic counter, of all vCPUs */
};

#define BUS_MAX_REGIONS 64

/* An address space of regions, sorted by base: one for MMIO, one for x86 ports. */
struct bus {
    unsigned count;
    struct io_region *regions[BUS_MAX_REGIONS];
};

/*
 * Adds a region, before the first vCPU runs: lookups take no lock. -EEXIST if it overlaps another,
 * -ENOSPC if the bus is full, -EINVAL if the region is empty or wraps.
 */
int bus_map(struct bus *bus, struct io_region *region);

/* The region that contains `addr`, or NULL. Counts nothing. Any thread. */
const struct io_region *bus_region(const struct bus *bus, uint64_t addr);

/*
 * An access outside all regions, or across a region's end, reads as all ones; writes are ignored,
 * as on real hardware.
 */
uint64_t bus_read(const struct bus *bus, uint64_t addr, unsigned size);
void bus_write(const struct bus *bus, uint64_t addr, unsigned size, uint64_t value);

#endif
