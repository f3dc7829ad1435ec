/* SPDX-License-Identifier: MIT */
#include "lib/virtio.h"

#define VIRTIO_MAGIC 0x74726976

uint32_t virtio_get(const struct virtio *v, unsigned reg)
{
    return (uint32_t)platform_read(v->base + reg, 4);
}

void virtio_set(const struct virtio *v, unsigned reg, uint32_t value)
{
    platform_write(v->base + reg, 4, value);
}

uint32_t virtio_status(const struct virtio *v)
{
    return virtio_get(v, VIRTIO_MMIO_STATUS);
}

void virtio_add_status(const struct virtio *v, uint32_t bits)
{
    virtio_set(v, VIRTIO_MMIO_STATUS, virtio_status(v) | bits);
}

struct virtio virtio_find(uint32_t id, unsigned n)
{
    struct virtio v = { .id = id };

    for (unsigned i = 0; (v.base = platform_virtio(i)); i++)
        if (virtio_get(&v, VIRTIO_MMIO_MAGIC_VALUE) == VIRTIO_MAGIC &&
            virtio_get(&v, VIRTIO_MMIO_DEVICE_ID) == id && n-- == 0)
            return v;
    print("no virtio device %u\n", id);
    platform_exit(EXIT_UNEXPECTED);
}

void virtio_reset(const struct virtio *v)
{
    virtio_set(v, VIRTIO_MMIO_STATUS, 0);
    expect_equal(virtio_status(v), 0);
}

uint64_t virtio_device_features(const struct virtio *v)
{
    uint64_t low;

    virtio_set(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    low = virtio_get(v, VIRTIO_MMIO_DEVICE_FEATURES);
    virtio_set(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    return low | (uint64_t)virtio_get(v, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
}

bool virtio_negotiate(const struct virtio *v, uint64_t features)
{
    virtio_set(v, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    for (unsigned half = 0; half < 2; half++) {
        virtio_set(v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        virtio_set(v, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * half));
    }
    virtio_add_status(v, VIRTIO_CONFIG_S_FEATURES_OK);
    return virtio_status(v) & VIRTIO_CONFIG_S_FEATURES_OK;
}

struct queue_layout queue_layout(const struct queue *q)
{
    return (struct queue_layout){ (uintptr_t)q->desc, (uintptr_t)&q->avail, (uintptr_t)&q->used,
                                  QUEUE_SIZE };
}

static void virtio_set_address(const struct virtio *v, unsigned low, uint64_t addr)
{
    virtio_set(v, low, (uint32_t)addr);
    virtio_set(v, low + 4, (uint32_t)(addr >> 32));
}

void virtio_set_up_queue(const struct virtio *v, unsigned index, const struct queue_layout *place)
{
    virtio_set(v, VIRTIO_MMIO_QUEUE_SEL, index);
    virtio_set(v, VIRTIO_MMIO_QUEUE_NUM, place->size);
    virtio_set_address(v, VIRTIO_MMIO_QUEUE_DESC_LOW, place->desc);
    virtio_set_address(v, VIRTIO_MMIO_QUEUE_AVAIL_LOW, place->avail);
    virtio_set_address(v, VIRTIO_MMIO_QUEUE_USED_LOW, place->used);
    virtio_set(v, VIRTIO_MMIO_QUEUE_READY, 1);
}

void virtio_add_queue(const struct virtio *v, unsigned index, struct queue *q)
{
    struct queue_layout place = queue_layout(q);

    q->avail.flags = q->avail.idx = q->avail.used_event = 0;
    q->used.flags = q->used.idx = q->used.avail_event = 0;
    q->seen = 0;
    virtio_set_up_queue(v, index, &place);
}

void virtio_driver_ok(const struct virtio *v)
{
    virtio_add_status(v, VIRTIO_CONFIG_S_DRIVER_OK);
}

void virtio_start(const struct virtio *v, uint64_t mask, struct queue *queues, unsigned count)
{
    virtio_reset(v);
    expect(virtio_negotiate(v, virtio_device_features(v) & (mask | 1ull << VIRTIO_F_VERSION_1)));
    for (unsigned i = 0; i < count; i++)
        virtio_add_queue(v, i, &queues[i]);
    virtio_driver_ok(v);
    expect_equal(virtio_status(v), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                       VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

void virtio_notify(const struct virtio *v, unsigned index)
{
    virtio_set(v, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

bool virtio_needs_reset(const struct virtio *v)
{
    for (uint64_t end = platform_ms() + WAIT_MS; platform_ms() < end; platform_relax())
        if (virtio_status(v) & VIRTIO_CONFIG_S_NEEDS_RESET)
            return true;
    return false;
}

void queue_describe(struct queue *q, unsigned index, const volatile void *buffer, uint32_t len,
                    unsigned flags, unsigned next)
{
    q->desc[index] = (struct descriptor){ (uintptr_t)buffer, len, (uint16_t)flags, (uint16_t)next };
}

void queue_offer(struct queue *q, unsigned head)
{
    q->avail.ring[q->avail.idx % QUEUE_SIZE] = (uint16_t)head;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    q->avail.idx++;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

uint32_t queue_wait(struct queue *q, unsigned head)
{
    unsigned slot = q->seen % QUEUE_SIZE;

    wait_for(q->used.idx != q->seen);
    q->seen++;
    expect_equal(q->used.ring[slot].id, head);
    return q->used.ring[slot].len;
}

void queue_submit(struct queue *q, const struct request *request)
{
    bool in = request->in_size, out = request->out_size;

    if (out)
        queue_describe(q, 0, request->out, request->out_size, in ? VRING_DESC_F_NEXT : 0, 1);
    if (in)
        queue_describe(q, out, request->in, request->in_size, VRING_DESC_F_WRITE, 0);
    queue_offer(q, 0);
}
