/* SPDX-License-Identifier: MIT */

/*
 * A hostile driver of virtio-blk: eight bytes of input are one descriptor, one request header or
 * one action, against a disk in memory that checks what reaches it.
 */
#include "devices/virtio/blk.h"

#include <linux/virtio_blk.h>
#include <string.h>

#include "devices/block/block.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

#define DISK_SIZE 65536u
#define STEP      8

/* Holds requests until an action of the input completes them. */
struct fake_disk {
    struct block block;
    struct block_request *first;
    uint8_t bytes[DISK_SIZE];
};

static void fake_submit(struct block *block, struct block_request *request)
{
    struct fake_disk *disk = container_of(block, struct fake_disk, block);

    if (request->op != BLOCK_FLUSH)
        demand(request->length > 0 && request->offset <= DISK_SIZE &&
               request->length <= DISK_SIZE - request->offset);
    request->next = disk->first;
    disk->first = request;
}

static void fake_commit(struct block *block)
{
}

static bool fake_drain(struct block *block, uint64_t deadline_ns)
{
    struct fake_disk *disk = container_of(block, struct fake_disk, block);

    while (disk->first) {
        struct block_request *request = disk->first;
        uint8_t *place = disk->bytes + request->offset;

        disk->first = request->next;
        if (request->op == BLOCK_READ)
            demand(sg_write(&request->data, place, request->length));
        else if (request->op == BLOCK_WRITE)
            demand(sg_read(&request->data, place, request->length));
        request->done(request, 0);
    }
    block->completed(block->owner);
    return true;
}

static void fake_close(struct block *block)
{
    demand(!container_of(block, struct fake_disk, block)->first);
}

static const struct block_ops fake_ops = {
    .submit = fake_submit, .commit = fake_commit, .drain = fake_drain, .close = fake_close
};

static void act(struct driver *d, struct block *block, const uint8_t *b)
{
    uint64_t place = DRIVER_BUFFERS + (b[1] & 0x3f) * 16u;

    switch (b[0] >> 5) {
    case 0:
    case 1: /* a descriptor: mostly near the headers, sometimes anywhere */
        driver_describe(d, 0, b[1] % 64, b[2] & 0x80 ? (uint64_t)b[3] << 20 : DRIVER_BUFFERS + b[3],
                        (uint32_t)b[4] << (b[5] & 15), b[0] & 7, b[6]);
        break;
    case 2: /* a header */
        le32_store(driver_ram(d, place), b[2]);
        le64_store(driver_ram(d, place + 8), (uint64_t)b[3] << (b[4] & 63));
        break;
    case 3:
    case 4:
        driver_publish(d, 0, b[1]);
        if (b[0] & 1)
            driver_kick(d, 0);
        break;
    case 5:
        fake_drain(block, BLOCK_NO_DEADLINE);
        break;
    case 6:
        driver_set_avail_idx(d, 0, (uint16_t)(b[1] | b[2] << 8));
        driver_kick(d, 0);
        break;
    default:
        virtio_reset(d->device);
        memset(driver_ram(d, 0x10000), 0, 0x10000);
        driver_start(d, d->device, b[1] & 1 ? BIT(VIRTIO_BLK_F_FLUSH) : 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fake_disk disk = { .block = { .ops = &fake_ops,
                                                .size = DISK_SIZE,
                                                .logical_size = 512,
                                                .physical_size = 512,
                                                .can_discard = true } };
    static struct driver d;

    log_set_level(LOG_LEVEL_ERROR);
    if (begin_driver(&d) &&
        virtio_blk_create(&d.device, "blk0", &disk.block, "", 0, d.mem, d.loop) < 0)
        abort();
    demand(driver_start(&d, d.device, BIT(VIRTIO_BLK_F_FLUSH) | 1ull << 28));
    for (; size >= STEP; data += STEP, size -= STEP)
        act(&d, &disk.block, data);
    virtio_reset(d.device);
    return 0;
}
