/* SPDX-License-Identifier: MIT */

/*
 * Counts its boots in the disk's first sector, the only state that survives a reset, and resets the
 * machine until the third boot. It leaves marks in RAM and the device running, to check that a
 * reset clears both.
 */
#include <linux/virtio_blk.h>

#include "lib/virtio.h"

#define BOOTS      3
#define MARK_STEP  0x200000u
#define MARK_COUNT 4

static struct queue q;
static uint8_t sector[512];

static void transfer(const struct virtio *v, uint32_t type, uint32_t size)
{
    static struct virtio_blk_outhdr header;
    static volatile uint8_t status;
    bool read = type == VIRTIO_BLK_T_IN;

    header.type = type;
    status = 0xff;
    queue_describe(&q, 0, &header, sizeof(header), VRING_DESC_F_NEXT, size ? 1 : 2);
    queue_describe(&q, 1, sector, size, VRING_DESC_F_NEXT | (read ? VRING_DESC_F_WRITE : 0), 2);
    queue_describe(&q, 2, &status, 1, VRING_DESC_F_WRITE, 0);
    queue_offer(&q, 0);
    virtio_notify(v, 0);
    queue_wait(&q, 0);
    expect_equal(status, VIRTIO_BLK_S_OK);
}

/* RAM is zero in all ranges. */
static void check_marks(void)
{
    struct range ram;

    for (unsigned i = 0; i < MARK_COUNT; i++) {
        volatile uint64_t *mark = (uint64_t *)(platform_free_ram() + i * MARK_STEP);

        expect_equal(*mark, 0);
        *mark = ~0ull;
    }
    for (unsigned i = 1; platform_ram(i, &ram); i++) {
        volatile uint64_t *mark = (uint64_t *)(ram.base + ram.size - sizeof(*mark));

        if (ram.base < platform_free_ram())
            continue;
        expect_equal(*mark, 0);
        *mark = ~0ull;
    }
}

int main(void)
{
    struct virtio v = virtio_find(VIRTIO_ID_BLOCK, 0);

    check_marks();
    expect_equal(virtio_status(&v), 0);
    expect_equal(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    virtio_start(&v, ~0ull, &q, 1);
    transfer(&v, VIRTIO_BLK_T_IN, sizeof(sector));
    print("boot %u\n", ++sector[0]);
    transfer(&v, VIRTIO_BLK_T_OUT, sizeof(sector));
    transfer(&v, VIRTIO_BLK_T_FLUSH, 0);
    if (sector[0] >= BOOTS)
        platform_power_off();
    platform_reset();
}
