/* SPDX-License-Identifier: MIT */

/*
 * Writes sectors of a disk, each with the number of the write, and flushes. Prints each number that
 * is flushed, for ever: the host kills the machine.
 *
 *     SECTORS
 */
#include <linux/virtio_blk.h>

#include "lib/virtio.h"

#define SECTOR 512

static struct queue queue;
static struct virtio v;
static struct {
    struct virtio_blk_outhdr header;
    uint64_t numbers[SECTOR / sizeof(uint64_t)];
} message;
static uint8_t status;

static void perform(uint32_t type, uint64_t sector, uint32_t bytes)
{
    const struct request request = { &message, sizeof(message.header) + bytes, &status, 1 };

    message.header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
    status = 0xff;
    queue_submit(&queue, &request);
    virtio_notify(&v, 0);
    expect_equal(queue_wait(&queue, 0), 1);
    expect_equal(status, VIRTIO_BLK_S_OK);
}

int main(void)
{
    unsigned sectors = word_number(0);

    v = virtio_find(VIRTIO_ID_BLOCK, 0);
    virtio_start(&v, ~0ull, &queue, 1);
    for (unsigned number = 1;; number++) {
        for (unsigned i = 0; i < ARRAY_SIZE(message.numbers); i++)
            message.numbers[i] = number;
        perform(VIRTIO_BLK_T_OUT, number % sectors, SECTOR);
        perform(VIRTIO_BLK_T_FLUSH, 0, 0);
        print("%u\n", number);
    }
}
