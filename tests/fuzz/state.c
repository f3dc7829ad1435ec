/* SPDX-License-Identifier: MIT */

/*
 * A corrupted or forged state. A device with a driver is paused and saved; the bytes are edited as
 * the input says, or replaced by it; a new device loads them. It must refuse them, or continue with
 * the rings as they are, and can then be paused, saved and destroyed.
 *
 *     input := u8 device (+ 0x80: the rest is the state), (u16 offset  u8 value)...
 *
 * To add a kind of device, write a function that creates it and append a line to `kinds`.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/block/block.h"
#include "devices/net/net.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/input.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/notifiers.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/device.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define RAM_SIZE   0x20000u
#define BUFFERS    0x10000u
#define RING_STEP  0x1000u
#define AVAIL      0x400u /* from a queue's descriptors to its rings */
#define USED       0x800u
#define QUEUE_SIZE 16
#define DISK_SIZE  65536u
#define EDIT       3 /* bytes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A machine with one device, and the back-ends the device may need. */
struct board {
    struct guest_memory *mem;
    struct loop *loop;
    struct device *device;
    struct virtio_device *virtio;   /* NULL for a chip */
    const struct io_region *region; /* the registers of either */
    uint32_t shadow[VIRTIO_MMIO_REGISTERS_SIZE / 4];
    struct block block;
    struct block_request *submitted;
    struct net net;
    unsigned frames;
};

static void demand(bool truth)
{
    if (!truth)
        abort();
}

/* A disk that completes all requests in commit(). */
static void disk_submit(struct block *block, struct block_request *request)
{
    struct board *b = container_of(block, struct board, block);

    if (request->op != BLOCK_FLUSH)
        demand(request->length > 0 && request->offset <= DISK_SIZE &&
               request->length <= DISK_SIZE - request->offset);
    request->next = b->submitted;
    b->submitted = request;
}

static void disk_commit(struct block *block)
{
    struct board *b = container_of(block, struct board, block);
    struct block_request *request = b->submitted;

    if (!request)
        return;
    while ((request = b->submitted)) {
        b->submitted = request->next;
        if (request->op == BLOCK_READ)
            demand(sg_zero(&request->data, request->length));
        request->done(request, 0);
    }
    block->completed(block->owner);
}

static bool disk_drain(struct block *block, uint64_t deadline_ns)
{
    disk_commit(block);
    return true;
}

static void disk_close(struct block *block)
{
    demand(!container_of(block, struct board, block)->submitted);
}

static const struct block_ops disk_ops = { disk_submit, disk_commit, disk_drain, disk_close };

/* A network back-end with a few frames to receive, each larger than a buffer. */
static int fake_net_send(struct net *net, const struct net_header *header, struct sg *frame)
{
    return container_of(net, struct board, net)->frames++ % 3 ? 0 : -EAGAIN;
}

static ssize_t fake_net_receive(struct net *net, struct sg *room)
{
    struct board *b = container_of(net, struct board, net);

    demand(room->length >= NET_HEADER_SIZE + NET_FRAME_MAX);
    if (b->frames++ > 8)
        return -EAGAIN;
    demand(sg_zero(room, 3000));
    return 3000;
}

static void fake_net_want_receive(struct net *net, bool want)
{
}

static void fake_net_close(struct net *net)
{
}

static const struct net_ops fake_net_ops = { .send = fake_net_send,
                                             .receive = fake_net_receive,
                                             .want_receive = fake_net_want_receive,
                                             .close = fake_net_close };

/* `error` is the result of creating b->virtio. */
static void plug_virtio(struct board *b, int error)
{
    struct virtio_mmio *mmio = NULL;

    demand(error == 0 && virtio_mmio_create(&mmio, b->virtio, 0, 5, &no_notifiers, b->shadow) == 0);
    b->device = virtio_mmio_device(mmio);
    b->region = virtio_mmio_region(mmio);
}

static void create_blk(struct board *b)
{
    b->block = (struct block){ .ops = &disk_ops,
                               .size = DISK_SIZE,
                               .logical_size = 512,
                               .physical_size = 512,
                               .can_discard = true };
    plug_virtio(b, virtio_blk_create(&b->virtio, "blk0", &b->block, "", 0, b->mem, b->loop));
}

static void create_net(struct board *b)
{
    static const uint8_t mac[6] = { 2 };

    b->net = (struct net){ .ops = &fake_net_ops, .mtu = 9000 };
    plug_virtio(b, virtio_net_create(&b->virtio, "net0", &b->net, mac, b->mem, b->loop));
}

static void create_rng(struct board *b)
{
    plug_virtio(b, virtio_rng_create(&b->virtio, "rng0", b->mem, b->loop));
}

static void create_input(struct board *b)
{
    plug_virtio(b, virtio_input_create(&b->virtio, "button0", b->mem, b->loop));
    virtio_input_press(b->virtio);
}

static void create_balloon(struct board *b)
{
    plug_virtio(b, virtio_balloon_create(&b->virtio, "balloon0", b->mem, b->loop));
}

/* The corpus refers to them by index: append only. */
static void (*const kinds[])(struct board *b) = { create_blk, create_net, create_rng, create_input,
                                                  create_balloon };

static void board_init(struct board *b, unsigned kind)
{
    *b = (struct board){ .mem = guest_memory_create(), .loop = loop_create() };
    demand(b->mem && b->loop && guest_memory_add(b->mem, 0, RAM_SIZE, NULL) == 0);
    kinds[kind](b);
}

static void board_finish(struct board *b)
{
    b->device->ops->destroy(b->device);
    loop_destroy(b->loop);
    guest_memory_destroy(b->mem);
}

static void board_turn(struct board *b)
{
    for (unsigned i = 0; i < 3; i++)
        loop_turn(b->loop, 0);
    if (b->net.client.readable) {
        b->net.client.readable(b->net.client.owner);
        b->net.client.writable(b->net.client.owner);
    }
}

static void board_pause(struct board *b)
{
    demand(b->device->ops->pause(b->device, clock_now_ns() + 10000000000) == 0);
}

static void put(struct board *b, uint64_t reg, uint32_t value)
{
    b->region->ops->write(b->region->owner, reg, 4, value);
}

/* Publishes some chains of 64 readable and 1000 writable bytes. */
static void fill_queue(struct board *b, unsigned queue, uint16_t published)
{
    uint8_t *ring = guest_ptr(b->mem, queue * RING_STEP, RING_STEP);

    for (unsigned i = 0; i < QUEUE_SIZE; i += 2) {
        uint8_t *desc = ring + 16 * i;

        le64_store((le64 *)desc, BUFFERS + 16 * i);
        le32_store((le32 *)(desc + 8), 64);
        le16_store((le16 *)(desc + 12), 1);
        le16_store((le16 *)(desc + 14), (uint16_t)(i + 1));
        le64_store((le64 *)(desc + 16), BUFFERS + 0x1000 + 0x400 * i);
        le32_store((le32 *)(desc + 24), 1000);
        le16_store((le16 *)(desc + 28), 2);
        le16_store((le16 *)(ring + AVAIL + 4) + i / 2, (uint16_t)i);
    }
    le16_store((le16 *)(ring + AVAIL + 2), published);
}

static void start_driver(struct board *b)
{
    static const uint64_t rings[] = { VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                                      VIRTIO_MMIO_QUEUE_USED_LOW };

    put(b, VIRTIO_MMIO_STATUS, 3);
    for (unsigned i = 0; i < 2; i++) {
        put(b, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
        put(b, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        put(b, VIRTIO_MMIO_DRIVER_FEATURES, b->shadow[VIRTIO_MMIO_DEVICE_FEATURES / 4]);
    }
    put(b, VIRTIO_MMIO_STATUS, 11);
    for (unsigned i = 0; i < b->virtio->queue_count; i++) {
        put(b, VIRTIO_MMIO_QUEUE_SEL, i);
        put(b, VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE);
        for (unsigned r = 0; r < ARRAY_SIZE(rings); r++)
            put(b, rings[r], i * RING_STEP + r * AVAIL);
        put(b, VIRTIO_MMIO_QUEUE_READY, 1);
        fill_queue(b, i, 2);
    }
    put(b, VIRTIO_MMIO_STATUS, 15);
    board_turn(b);
}

static void save(struct board *b, struct state *ret)
{
    state_begin_save(ret);
    b->device->ops->state(b->device, ret);
    demand(ret->error == 0);
}

static void edit(struct state *saved, const uint8_t *edits, size_t size)
{
    for (; size >= EDIT; edits += EDIT, size -= EDIT)
        saved->bytes[(edits[0] | edits[1] << 8) % saved->at] = edits[2];
}

/* Guest memory is as the driver left it, with more requests from the input. */
static void load(struct board *b, const struct board *old, const struct state *saved,
                 const uint8_t *data, size_t size)
{
    uint8_t *ram = guest_ptr(b->mem, 0, RAM_SIZE);
    struct state in, again;

    memcpy(ram, guest_ptr(old->mem, 0, RAM_SIZE), RAM_SIZE);
    for (unsigned i = 0; size > 0 && i < 0x1000; i++)
        ram[BUFFERS + i] = data[i % size];
    board_pause(b);
    state_begin_load(&in, saved->bytes, saved->at);
    b->device->ops->state(b->device, &in);
    if (state_finish(&in))
        return;
    save(b, &again);
    state_finish(&again);
    for (unsigned i = 0; b->virtio && i < b->virtio->queue_count; i++)
        fill_queue(b, i, QUEUE_SIZE / 2);
    b->device->ops->resume(b->device);
    board_turn(b);
    board_pause(b);
    save(b, &again);
    state_finish(&again);
    b->device->ops->resume(b->device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned kind = size > 0 ? (data[0] & 0x7f) % ARRAY_SIZE(kinds) : 0;
    struct board old, new;
    struct state saved;

    log_set_level(LOG_LEVEL_ERROR);
    if (size == 0)
        return 0;
    board_init(&old, kind);
    if (old.virtio)
        start_driver(&old);
    board_pause(&old);
    save(&old, &saved);
    board_init(&new, kind);
    if (data[0] & 0x80) {
        const struct state given = { .bytes = (uint8_t *)data + 1, .at = size - 1 };

        load(&new, &old, &given, data, size);
    } else {
        edit(&saved, data + 1, size - 1);
        load(&new, &old, &saved, data, size);
    }
    state_finish(&saved);
    board_finish(&new);
    board_finish(&old);
    return 0;
}
