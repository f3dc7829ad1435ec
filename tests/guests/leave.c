/* SPDX-License-Identifier: MIT */

/*
 * Resets the machine, or with "off" powers it off, while a disk request is in flight. It waits for
 * a byte on the serial port, which the host sends once its disk has the request.
 */
#include <linux/virtio_blk.h>

#include "lib/virtio.h"

static struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN };
static uint8_t sector[512 + 1]; /* and the status */
static struct queue q;

int main(void)
{
    const struct request request = { &header, sizeof(header), sector, sizeof(sector) };
    struct virtio v = virtio_find(VIRTIO_ID_BLOCK, 0);
    char byte;

    virtio_start(&v, ~0ull, &q, 1);
    queue_submit(&q, &request);
    virtio_notify(&v, 0);
    print("leaving\n");
    while (!platform_get(&byte))
        platform_relax();
    if (word_is(0, "off"))
        platform_power_off();
    platform_reset();
}
