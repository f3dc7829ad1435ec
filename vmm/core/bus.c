/* SPDX-License-Identifier: MIT */
#include "vmm/core/bus.h"

#include <errno.h>
#include <string.h>

#include "vmm/core/base.h"

/* The index of the first region that starts above `addr`. */
static unsigned bus_above(const struct bus *bus, uint64_t addr)
{
    unsigned low = 0, high = bus->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (bus->regions[middle]->base <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int bus_map(struct bus *bus, struct io_region *region)
{
    unsigned at = bus_above(bus, region->base);
    uint64_t last;

    if (region->size == 0 || __builtin_add_overflow(region->base, region->size - 1, &last))
        return -EINVAL;
    if (at > 0 && region->base - bus->regions[at - 1]->base < bus->regions[at - 1]->size)
        return -EEXIST;
    if (at < bus->count && bus->regions[at]->base <= last)
        return -EEXIST;
    if (bus->count == ARRAY_SIZE(bus->regions))
        return -ENOSPC;

    memmove(&bus->regions[at + 1], &bus->regions[at], (bus->count - at) * sizeof(*bus->regions));
    bus->regions[at] = region;
    bus->count++;
    return 0;
}

static struct io_region *bus_lookup(const struct bus *bus, uint64_t addr)
{
    unsigned above = bus_above(bus, addr);
    struct io_region *region = above > 0 ? bus->regions[above - 1] : NULL;

    return region && addr - region->base < region->size ? region : NULL;
}

const struct io_region *bus_region(const struct bus *bus, uint64_t addr)
{
    return bus_lookup(bus, addr);
}

/* Finds the region that contains the access, and counts the access. NULL: none. */
static const struct io_region *bus_find(const struct bus *bus, uint64_t addr, unsigned size)
{
    struct io_region *region = bus_lookup(bus, addr);

    if (!region || size > region->size - (addr - region->base))
        return NULL;
    __atomic_fetch_add(&region->accesses, 1, __ATOMIC_RELAXED);
    return region;
}

uint64_t bus_read(const struct bus *bus, uint64_t addr, unsigned size)
{
    const struct io_region *region = bus_find(bus, addr, size);

    return region ? region->ops->read(region->owner, addr - region->base, size) : UINT64_MAX;
}

void bus_write(const struct bus *bus, uint64_t addr, unsigned size, uint64_t value)
{
    const struct io_region *region = bus_find(bus, addr, size);

    if (region)
        region->ops->write(region->owner, addr - region->base, size, value);
}
