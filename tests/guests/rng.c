/* SPDX-License-Identifier: MIT */

/* Entropy requests of several sizes: never more bytes than requested, never the same. */
#include "lib/virtio.h"

#define HUGE 0x100000u /* bytes: more than a device should generate at once */

static struct virtio rng;
static struct queue q;

static uint32_t get(void *to, uint32_t size)
{
    uint32_t written;

    queue_submit(&q, &(struct request){ .in = to, .in_size = size });
    virtio_notify(&rng, 0);
    written = queue_wait(&q, 0);
    expect(written > 0 && written <= size);
    return written;
}

static void different_each_time(void)
{
    static uint64_t first[2], second[2];

    expect_equal(get(first, sizeof(first)), sizeof(first));
    expect_equal(get(second, sizeof(second)), sizeof(second));
    expect(first[0] && first[1] && second[0] && second[1]);
    expect(first[0] != second[0] && first[1] != second[1]);
}

/* However large the request, the device neither allocates that much nor stalls. */
static void huge_request(void)
{
    uint8_t *room = (uint8_t *)platform_free_ram();
    uint32_t written = get(room, HUGE);

    for (uint32_t i = written; i < written + 64 && i < HUGE; i++)
        expect_equal(room[i], 0); /* nothing after the used length */
}

static void no_room(void)
{
    static uint8_t byte;

    queue_submit(&q, &(struct request){ .out = &byte, .out_size = 1 });
    virtio_notify(&rng, 0);
    expect_equal(queue_wait(&q, 0), 0);
}

int main(void)
{
    rng = virtio_find(VIRTIO_ID_RNG, 0);
    virtio_start(&rng, ~0ull, &q, 1);
    different_each_time();
    huge_request();
    no_room();
    different_each_time();
    return 0;
}
