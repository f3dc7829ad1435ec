/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_BUS_H
#define VMM_CORE_BUS_H

#include <stdint.h>

/*
 * Register access, on the thread of the vCPU that asked: several may come at once. `offset` is
 * from the region's start, `size` is 1, 2, 4 or 8 bytes, and the access lies inside the region.
 */
struct io_ops {
    uint64_t (*read)(void *owner, uint64_t offset, unsigned size);
    void (*write)(void *owner, uint64_t offset, unsigned size, uint64_t value);
};

/* A window of device registers. Part of its device, which outlives the bus. */
struct io_region {
    const char *name;
    uint64_t base;
    uint64_t size; /* bytes */
    const struct io_ops *ops;
    void *owner;       /* first argument of `ops` */
    uint64_t accesses; /* atomic: all there were, by all vCPUs */
};

#define BUS_MAX_REGIONS 64

/* An address space of such windows, sorted: one for MMIO, one for x86 ports. */
struct bus {
    unsigned count;
    struct io_region *regions[BUS_MAX_REGIONS];
};

/*
 * Before the first vCPU runs: afterwards lookups take no lock. -EEXIST if the window overlaps
 * another, -ENOSPC if the bus is full, -EINVAL if it is empty or wraps.
 */
int bus_map(struct bus *bus, struct io_region *region);

/* The window that `addr` lies in, or NULL. Any thread. */
const struct io_region *bus_region(const struct bus *bus, uint64_t addr);

/*
 * Where no window is mapped, or the access crosses a window's end, reads give all ones and writes
 * vanish, as on real hardware.
 */
uint64_t bus_read(const struct bus *bus, uint64_t addr, unsigned size);
void bus_write(const struct bus *bus, uint64_t addr, unsigned size, uint64_t value);

#endif
