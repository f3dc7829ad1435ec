/* SPDX-License-Identifier: MIT */

/*
 * Reads and writes a device's registers at every offset in every width, across the region's end,
 * too, with and without a driver. Afterwards a reset must make the device work.
 */
#include "lib/sanity.h"

#define REGION  0x200u /* bytes of registers */
#define PATTERN 0x5454545454545454ull

static struct queue queues[MAX_QUEUES];

static void touch_all(const struct virtio *v, bool write)
{
    for (unsigned offset = 0; offset < REGION + 8; offset++)
        for (unsigned size = 1; size <= 8; size *= 2)
            if (write)
                platform_write(v->base + offset, size, PATTERN);
            else
                platform_read(v->base + offset, size);
}

/* Virtio 1.2, 4.2.2.2: drivers use 32 bits. Reads of the shadow page work in any width. */
static void check_widths(const struct virtio *v)
{
    uint64_t start =
        virtio_get(v, VIRTIO_MMIO_MAGIC_VALUE) | (uint64_t)virtio_get(v, VIRTIO_MMIO_VERSION) << 32;

    for (unsigned size = 1; size <= 8; size *= 2)
        expect_equal(platform_read(v->base, size), start & ~0ull >> (64 - 8 * size));
    virtio_reset(v);
    platform_write(v->base + VIRTIO_MMIO_STATUS, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    platform_write(v->base + VIRTIO_MMIO_STATUS, 8, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    platform_write(v->base + VIRTIO_MMIO_STATUS - 2, 4, VIRTIO_CONFIG_S_ACKNOWLEDGE << 16);
    expect_equal(virtio_status(v), 0);
}

/* Writes are ignored, and reads return `bytes`. */
static void check_nothing_there(uint64_t addr, uint64_t bytes)
{
    for (unsigned size = 1; size <= 8; size *= 2) {
        platform_write(addr, size, 0x55);
        expect_equal(platform_read(addr, size), bytes & ~0ull >> (64 - 8 * size));
    }
}

/* Accesses across the region's end and after it. */
static void check_ends(const struct virtio *v, uint64_t bytes)
{
    for (unsigned back = 1; back < 8; back++)
        for (unsigned size = 2; size <= 8; size *= 2)
            if (size > back)
                expect_equal(platform_read(v->base + REGION - back, size),
                             bytes & ~0ull >> (64 - 8 * size));
    check_nothing_there(v->base + REGION, bytes);
    check_nothing_there(v->base + 0xff8, bytes);
}

int main(void)
{
    const struct sanity *device = sanity_device();
    struct virtio v = virtio_find(device->id, 0);

    check_nothing_there(platform_hole(), ~0ull);
    check_nothing_there(platform_hole() + 1, ~0ull);
    check_ends(&v, ~0ull);
    virtio_add_status(&v, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    check_ends(&v, 0); /* now reads come from the shadow page, zero after the registers */
    check_widths(&v);
    for (unsigned driven = 0; driven < 2; driven++) {
        if (driven)
            virtio_start(&v, ~0ull, queues, device->queues);
        touch_all(&v, false);
        touch_all(&v, true);
        touch_all(&v, false);
    }
    virtio_start(&v, ~0ull, queues, device->queues);
    sanity_check(device, &v, &queues[device->queue]);
    print("%s works\n", device->name);
    return 0;
}
