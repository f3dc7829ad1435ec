/* SPDX-License-Identifier: MIT */

/*
 * Touches AMOUNT bytes of RAM and prints "touched"; after a byte of input reports them as free and
 * prints "reported"; after another byte uses them again.
 */
#include "lib/virtio.h"

#define AMOUNT (32ull << 20)
#define PIECES 8
#define PAGE   4096u

enum { INFLATE, DEFLATE, REPORT, QUEUES };

static struct virtio balloon;
static struct queue queues[QUEUES];
static uint64_t *ram;

static void wait_for_input(void)
{
    char c;

    while (!platform_get(&c))
        platform_relax();
}

static void touch(uint64_t value)
{
    for (uint64_t i = 0; i < AMOUNT / sizeof(*ram); i += PAGE / sizeof(*ram))
        ram[i] = value + i;
    for (uint64_t i = 0; i < AMOUNT / sizeof(*ram); i += PAGE / sizeof(*ram))
        expect_equal(ram[i], value + i);
}

static void report(void)
{
    struct queue *q = &queues[REPORT];

    for (unsigned i = 0; i < PIECES; i++)
        queue_describe(q, i, (char *)ram + i * (AMOUNT / PIECES), AMOUNT / PIECES,
                       VRING_DESC_F_WRITE | (i + 1 < PIECES ? VRING_DESC_F_NEXT : 0), i + 1);
    queue_offer(q, 0);
    virtio_notify(&balloon, REPORT);
    expect_equal(queue_wait(q, 0), 0);
}

static void inflate_and_deflate(void)
{
    static uint32_t pfns[2];

    for (unsigned i = 0; i < 2; i++)
        pfns[i] = (uint32_t)((uintptr_t)ram / PAGE + i);
    for (unsigned queue = INFLATE; queue <= DEFLATE; queue++) {
        queue_submit(&queues[queue], &(struct request){ .out = pfns, .out_size = sizeof(pfns) });
        virtio_notify(&balloon, queue);
        expect_equal(queue_wait(&queues[queue], 0), 0);
    }
}

int main(void)
{
    ram = (uint64_t *)((platform_free_ram() + (2u << 20)) & ~((2ull << 20) - 1));
    balloon = virtio_find(VIRTIO_ID_BALLOON, 0);
    virtio_start(&balloon, ~0ull, queues, QUEUES);
    touch(1);
    print("touched\n");
    wait_for_input();
    report();
    print("reported\n");
    wait_for_input();
    touch(2);
    inflate_and_deflate();
    touch(3);
    report();
    touch(4);
    return 0;
}
