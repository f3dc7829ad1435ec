/* SPDX-License-Identifier: MIT */

/*
 * Reads the disk's first sector as often as the command line says, one request at a time, each with
 * an interrupt. With the second word "twice" it does so before and after a reset of the machine.
 */
#include <linux/virtio_blk.h>

#include "lib/virtio.h"

static struct queue q;
static struct virtio_blk_outhdr header;
static struct {
    uint8_t sector[512], status;
} answer;

static void transfer(const struct virtio *disk, uint32_t type)
{
    bool read = type == VIRTIO_BLK_T_IN;
    uint32_t size = sizeof(answer.sector);

    header.type = type;
    queue_describe(&q, 0, &header, sizeof(header), VRING_DESC_F_NEXT, 1);
    queue_describe(&q, 1, answer.sector, size, VRING_DESC_F_NEXT | (read ? VRING_DESC_F_WRITE : 0),
                   2);
    queue_describe(&q, 2, &answer.status, 1, VRING_DESC_F_WRITE, 0);
    queue_offer(&q, 0);
    virtio_notify(disk, 0);
    queue_wait(&q, 0);
    expect_equal(answer.status, VIRTIO_BLK_S_OK);
}

int main(void)
{
    struct virtio disk = virtio_find(VIRTIO_ID_BLOCK, 0);

    virtio_start(&disk, 0, &q, 1);
    for (unsigned i = 0; i < word_number(0); i++)
        transfer(&disk, VIRTIO_BLK_T_IN);
    if (word_is(1, "twice") && !answer.sector[0]) {
        answer.sector[0] = 1;
        transfer(&disk, VIRTIO_BLK_T_OUT);
        platform_reset();
    }
    print("done\n");
    return 0;
}
