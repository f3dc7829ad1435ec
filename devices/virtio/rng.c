/* SPDX-License-Identifier: MIT */
#include "devices/virtio/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"

#define RNG_BURST    16  /* requests served before the loop polls again */
#define RNG_MAX_SIZE 256 /* bytes per request: getrandom() never returns fewer than asked for */

struct virtio_rng {
    struct virtio_device virtio;
    struct virtq_chain chain;
};

/* Fills at most RNG_MAX_SIZE bytes: the device may return fewer than the driver asked for. */
static uint32_t rng_fill(struct sg *room)
{
    uint8_t entropy[RNG_MAX_SIZE];
    size_t size = room->length < sizeof(entropy) ? room->length : sizeof(entropy);

    if (getrandom(entropy, size, 0) != (ssize_t)size)
        return 0;
    sg_write(room, entropy, size);
    return (uint32_t)size;
}

static void rng_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_rng *rng = container_of(v, struct virtio_rng, virtio);
    struct virtq *q = virtio_virtq(v, queue);
    unsigned served = 0;

    while (served < RNG_BURST && virtq_pop(q, &rng->chain)) {
        virtq_push(q, &rng->chain, rng_fill(&rng->chain.writable));
        served++;
    }
    virtq_flush(q);
    if (!virtq_enable_notification(q))
        virtio_kick(v, queue); /* continue after the loop's other devices */
}

static void rng_destroy(struct virtio_device *v)
{
    free(container_of(v, struct virtio_rng, virtio));
}

static const struct virtio_ops rng_ops = {
    .type = VIRTIO_ID_RNG,
    .queue_size = 64,
    .kick = rng_kick,
    .destroy = rng_destroy,
};

int virtio_rng_create(struct virtio_device **ret, const char *name, const struct guest_memory *mem,
                      struct loop *loop)
{
    struct virtio_rng *rng = calloc(1, sizeof(*rng));
    int error;

    if (!rng)
        return -ENOMEM;
    error = virtio_init(&rng->virtio, &rng_ops, virtio_no_state, 1, name, mem, loop);
    if (error < 0) {
        free(rng);
        return error;
    }
    *ret = &rng->virtio;
    return 0;
}
