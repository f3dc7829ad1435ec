/* SPDX-License-Identifier: MIT */

/*
 * Random rings: each round changes some words of a valid request's descriptors, rings or bytes, and
 * notifies the device, which must answer, ignore it or set NEEDS_RESET, and must work at the end.
 *
 *     DEVICE SEED ROUNDS
 */
#include "lib/sanity.h"

#define SCRATCH 4096
#define CHANGES 6  /* at most, in a round */
#define LOOKS   40 /* at the device, for an answer: some requests have none */

static struct queue queues[MAX_QUEUES];
static struct queue *q;
static _Alignas(16) uint8_t scratch[SCRATCH]; /* the only memory that a device may write */
static uint64_t seed;

static uint64_t random_number(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint64_t below(uint64_t limit)
{
    return random_number() % limit;
}

/* In the scratch memory, or where there is no RAM: else the payload would overwrite itself. */
static uint64_t random_address(void)
{
    const uint64_t outside[] = { platform_hole(), ~0ull, ~0ull << below(64), 1ull << 63 };

    return below(4) ? (uintptr_t)scratch + below(SCRATCH) : outside[below(ARRAY_SIZE(outside))];
}

/* What lies in the scratch memory, or more than all RAM. */
static uint32_t random_length(uint64_t addr)
{
    uint64_t room = addr - (uintptr_t)scratch < SCRATCH ? (uintptr_t)scratch + SCRATCH - addr : 1;

    return below(8) ? (uint32_t)below(room + 1) : ~0u - (uint32_t)below(4096);
}

static void random_descriptor(volatile struct descriptor *desc)
{
    uint64_t addr = random_address();

    desc->addr = addr;
    desc->len = random_length(addr);
    desc->flags = (uint16_t)(below(8) ? below(8) : random_number());
    desc->next = (uint16_t)(below(8) ? below(QUEUE_SIZE) : random_number());
}

static void change(void)
{
    switch (below(8)) {
    case 0:
        scratch[below(SCRATCH)] = (uint8_t)random_number();
        break;
    case 1: /* of an indirect table */
        random_descriptor((struct descriptor *)scratch +
                          below(SCRATCH / sizeof(struct descriptor)));
        break;
    case 2:
        q->avail.ring[below(QUEUE_SIZE)] =
            (uint16_t)(below(4) ? below(QUEUE_SIZE) : random_number());
        break;
    case 3:
        q->avail.idx = (uint16_t)(q->avail.idx + (below(4) ? below(4) : random_number()));
        break;
    case 4:
        q->avail.flags = (uint16_t)random_number();
        q->avail.used_event = (uint16_t)random_number();
        break;
    default:
        random_descriptor(&q->desc[below(QUEUE_SIZE)]);
    }
}

/* The request of `device`, in the scratch memory. */
static void submit(const struct sanity *device)
{
    struct request request = device->request;

    memcpy(scratch, (const void *)(uintptr_t)request.out, request.out_size);
    request.out = scratch;
    request.in = scratch + SCRATCH / 2;
    queue_submit(q, &request);
}

static bool is_broken(const struct virtio *v)
{
    return virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

int main(void)
{
    const struct sanity *device = sanity_device();
    struct virtio v = virtio_find(device->id, 0);
    unsigned rounds = word_number(2), broken = 0, answered = 0;

    seed = word_number(1) + 1;
    q = &queues[device->queue];
    virtio_start(&v, ~0ull, queues, device->queues);
    for (unsigned i = 0; i < rounds; i++) {
        uint16_t seen = q->used.idx;

        submit(device);
        for (uint64_t changes = 1 + below(CHANGES); changes > 0; changes--)
            change();
        virtio_notify(&v, device->queue);
        for (unsigned look = 0; look < LOOKS && q->used.idx == seen && !is_broken(&v); look++)
            platform_relax();
        answered += q->used.idx != seen;
        if (!is_broken(&v))
            continue;
        broken++;
        virtio_start(&v, ~0ull, queues, device->queues);
    }
    virtio_start(&v, ~0ull, queues, device->queues);
    sanity_check(device, &v, q);
    print("answered %u, broken %u of %u\n", answered, broken, rounds);
    return 0;
}
