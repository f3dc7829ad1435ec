/* SPDX-License-Identifier: MIT */

/*
 * A second CPU changes descriptors while the device reads them: a field that is read twice would be
 * checked with one value and used with another. Each request is answered or breaks the queue.
 */
#include "lib/sanity.h"

#define ROUNDS 200

static struct queue queues[MAX_QUEUES];
static struct queue *q;
static bool stop, stopped;

static void interfere(void)
{
    volatile struct descriptor *desc = q->desc;
    uint64_t hole = platform_hole();

    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        struct descriptor good = desc[0];

        desc[0].addr = hole;
        desc[0].addr = good.addr;
        desc[0].len = ~0u;
        desc[0].len = good.len;
        desc[0].flags = good.flags ^ VRING_DESC_F_NEXT;
        desc[0].flags = good.flags;
        desc[0].next = ~good.next;
        desc[0].next = good.next;
    }
    __atomic_store_n(&stopped, true, __ATOMIC_SEQ_CST);
}

/* True if the device answered, false if it set NEEDS_RESET. */
static bool completed(const struct virtio *v)
{
    wait_for(q->used.idx != q->seen || virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
    q->seen = q->used.idx;
    return !(virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

int main(void)
{
    const struct sanity *device = sanity_device();
    struct virtio v = virtio_find(device->id, 0);
    unsigned answered = 0;

    q = &queues[device->queue];
    virtio_start(&v, ~0ull, queues, device->queues);
    queue_submit(q, &device->request); /* sets up the descriptors to change */
    expect(platform_start_cpu(1, interfere));
    virtio_start(&v, ~0ull, queues, device->queues);
    for (unsigned i = 0; i < ROUNDS; i++) {
        sanity_submit(device, &v, q);
        if (completed(&v))
            answered++;
        else
            virtio_start(&v, ~0ull, queues, device->queues);
    }
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    wait_for(__atomic_load_n(&stopped, __ATOMIC_SEQ_CST));
    print("answered %u of %u\n", answered, ROUNDS);
    virtio_start(&v, ~0ull, queues, device->queues);
    sanity_check(device, &v, q);
    return 0;
}
