/* SPDX-License-Identifier: MIT */

/*
 * Register accesses to virtio-mmio from the input, of any width at any offset, with a device that
 * pops and pushes all requests.
 */
#include "devices/virtio/mmio.h"

#include <stdlib.h>
#include <string.h>

#include "devices/virtio/virtio.h"
#include "tests/unit/notifiers.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define RAM_SIZE (64 * KIB)
#define STEP     8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void echo_read_config(struct virtio_device *v, void *config)
{
    memset(config, 0x11, 24);
}

static void echo_write_config(struct virtio_device *v, unsigned offset, unsigned size,
                              uint64_t value)
{
    if (offset >= 24 || size > 24 - offset)
        abort();
}

static void echo_kick(struct virtio_device *v, unsigned queue)
{
    static struct virtq_chain chain;
    struct virtq *q = virtio_virtq(v, queue);

    while (virtq_pop(q, &chain)) {
        sg_zero(&chain.writable, chain.writable.length);
        virtq_push(q, &chain, 0);
    }
    virtq_flush(q);
}

static void echo_destroy(struct virtio_device *v)
{
    free(v);
}

static const struct virtio_ops echo_ops = { .type = 7,
                                            .queue_size = 32,
                                            .config_size = 24,
                                            .read_config = echo_read_config,
                                            .write_config = echo_write_config,
                                            .kick = echo_kick,
                                            .destroy = echo_destroy };

static void act(const struct io_region *region, struct loop *loop, uint8_t *ram, const uint8_t *b)
{
    unsigned size = 1u << (b[0] & 3);
    uint64_t offset = (b[1] | b[2] << 8) % VIRTIO_MMIO_REGISTERS_SIZE;
    uint64_t value = b[3] | (uint64_t)b[4] << 8 | (uint64_t)b[5] << 16 | (uint64_t)b[6] << 24;

    if (b[0] & 0x80) {
        memcpy(ram + (b[1] | b[2] << 8) % (RAM_SIZE - 4), b + 3, 4);
    } else if (b[0] & 0x40) {
        loop_turn(loop, 0);
    } else if (size <= VIRTIO_MMIO_REGISTERS_SIZE - offset) {
        if (b[0] & 0x20)
            region->ops->read(region->owner, offset, size);
        else
            region->ops->write(region->owner, offset & ~3ull, b[0] & 0x10 ? size : 4, value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t shadow[VIRTIO_MMIO_REGISTERS_SIZE / 4] = { 0 };
    struct virtio_device *v = malloc(sizeof(*v));
    struct guest_memory *mem = guest_memory_create();
    struct loop *loop = loop_create();
    struct virtio_mmio *mmio;
    struct device *device;

    log_set_level(LOG_LEVEL_ERROR);
    if (guest_memory_add(mem, 0, RAM_SIZE, NULL) < 0 ||
        virtio_init(v, &echo_ops, virtio_no_state, 3, "echo0", mem, loop) ||
        virtio_mmio_create(&mmio, v, 0, 5, &no_notifiers, shadow) < 0)
        abort();
    for (; size >= STEP; data += STEP, size -= STEP)
        act(virtio_mmio_region(mmio), loop, guest_ptr(mem, 0, RAM_SIZE), data);
    device = virtio_mmio_device(mmio);
    device->ops->destroy(device);
    loop_destroy(loop);
    guest_memory_destroy(mem);
    return 0;
}
