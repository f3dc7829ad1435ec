/* SPDX-License-Identifier: MIT */

/*
 * The input is the rings' addresses and size, and the contents of guest memory. Every chain popped
 * must lie in RAM and be no longer than the queue.
 */
#include "devices/virtio/virtq.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/core/base.h"
#include "vmm/core/memory.h"

#define RAM_SIZE (64 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_interrupt(void *owner, struct virtq *q)
{
}

static void on_broken(void *owner, struct virtq *q, const char *why)
{
    if (++*(unsigned *)owner > 1)
        abort(); /* broken() is called once */
}

static const struct virtq_owner_ops owner_ops = { on_interrupt, on_broken };

static void check_chain(const struct virtq_chain *chain, const uint8_t *ram, unsigned queue_size)
{
    const struct sg *slices[] = { &chain->readable, &chain->writable };
    unsigned pieces = 0;

    for (unsigned s = 0; s < 2; s++) {
        size_t length = 0;

        for (const struct iovec *iov = slices[s]->iov; length < slices[s]->length; iov++) {
            const uint8_t *base = iov->iov_base;

            if (base < ram || base > ram + RAM_SIZE || iov->iov_len > RAM_SIZE ||
                iov->iov_len > (size_t)(ram + RAM_SIZE - base))
                abort();
            length += iov->iov_len;
            pieces++;
        }
    }
    if (pieces > queue_size)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct virtq_chain chains[VIRTQ_MAX_SIZE];
    struct guest_memory *mem = guest_memory_create();
    unsigned broken = 0, count = 0;
    struct virtq *q = virtq_create(mem, &owner_ops, &broken);
    uint8_t *ram;

    if (!q || guest_memory_add(mem, 0, RAM_SIZE, NULL) < 0 || !(ram = guest_ptr(mem, 0, RAM_SIZE)))
        abort();
    if (size >= 8) {
        const struct virtq_layout layout = {
            .desc = data[0] * 256u,
            .avail = data[1] * 256u,
            .used = data[2] * 256u,
            .size = (uint16_t)(1u << (data[3] % 9)),
            .event_idx = data[4] & 1,
            .indirect = data[4] & 2,
        };

        memcpy(ram, data + 8, size - 8 < RAM_SIZE ? size - 8 : RAM_SIZE);
        if (virtq_start(q, &layout) == 0) {
            while (count < VIRTQ_MAX_SIZE && virtq_pop(q, &chains[count])) {
                check_chain(&chains[count], ram, layout.size);
                count++;
            }
            virtq_enable_notification(q);
            while (count-- > 0)
                virtq_push(q, &chains[count], count);
            virtq_flush(q);
        }
    }
    virtq_destroy(q);
    guest_memory_destroy(mem);
    return 0;
}
