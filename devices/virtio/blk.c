/* SPDX-License-Identifier: MIT */
#include "devices/virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "devices/block/block.h"
#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

#define SECTOR_SIZE 512u
#define QUEUE_SIZE  128u
#define BATCH       16u              /* requests started together */
#define SEG_MAX     (QUEUE_SIZE - 2) /* beside the header and the status */
#define DISCARD_MAX (1u << 22)       /* sectors in one request: 2 GiB */
#define ZEROES_MAX  (1u << 16)       /* 32 MiB: some hosts can only write them out */

/* Of blk_patience(). */
#define LOOK_NS     32000u
#define LOOK_PRICE  64u /* points */
#define LOOK_PROFIT 16u
#define MAX_POINTS  (4 * LOOK_PRICE)

/* Configuration space up to what DISCARD and WRITE_ZEROES need, in whole words. */
#define CONFIG_SIZE (offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4)

/* Virtio 1.2, 5.2.6: what the driver puts first. */
struct blk_header {
    le32 type;
    le32 reserved;
    le64 sector;
};

/* 5.2.6: what a discard or write-zeroes is about. */
struct blk_range {
    le64 sector;
    le32 count; /* sectors */
    le32 flags;
};

struct blk_request {
    struct block_request block;
    struct virtio_blk *blk;
    struct blk_request *next_free;
    uint8_t *status;  /* in guest memory; NULL if the guest left no room */
    uint32_t written; /* bytes the guest gets beside the status */
    struct virtq_chain chain;
};

struct virtio_blk {
    struct virtio_device virtio;
    struct block *block;
    char serial[VIRTIO_BLK_ID_BYTES];
    int poll_us; /* see virtio_blk_create() */

    bool serving;        /* within blk_serve(), or about to stop */
    unsigned in_flight;  /* requests taken and not yet given back */
    uint64_t idle_since; /* clock_now_ns() once none was in flight and none waited, or 0 */
    unsigned points;     /* see blk_patience() */

    /* Last used, first taken again: requests never needed are never touched. */
    struct blk_request *free;
    unsigned fresh;
    struct blk_request requests[QUEUE_SIZE + 1]; /* one more than can be in flight */
};

static struct virtio_blk *blk_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_blk, virtio);
}

static struct blk_request *blk_take(struct virtio_blk *blk)
{
    struct blk_request *req = blk->free;

    if (req) {
        blk->free = req->next_free;
    } else {
        req = &blk->requests[blk->fresh++];
        req->blk = blk;
    }
    return req;
}

static void blk_give_back(struct virtio_blk *blk, struct blk_request *req)
{
    req->next_free = blk->free;
    blk->free = req;
}

static uint8_t blk_status(int error)
{
    switch (error) {
    case 0:
        return VIRTIO_BLK_S_OK;
    case -EOPNOTSUPP:
        return VIRTIO_BLK_S_UNSUPP;
    default:
        return VIRTIO_BLK_S_IOERR;
    }
}

static void blk_finish(struct blk_request *req, int error)
{
    struct virtio_blk *blk = req->blk;
    uint32_t written = error ? 0 : req->written;

    if (req->status) {
        *req->status = blk_status(error);
        written++;
    }
    virtq_push(virtio_virtq(&blk->virtio, 0), &req->chain, written);
    blk_give_back(blk, req);
    blk->in_flight--;
}

static void blk_done(struct block_request *block, int error)
{
    blk_finish(container_of(block, struct blk_request, block), error);
}

/* Is [sector, + block->length) on the disk, in whole blocks? Sets block->offset. */
static int blk_place(const struct virtio_blk *blk, struct block_request *block, uint64_t sector)
{
    uint64_t size = blk->block->size;
    uint32_t unit = blk->block->logical_size;

    if (__builtin_mul_overflow(sector, SECTOR_SIZE, &block->offset) || block->offset > size ||
        block->length > size - block->offset)
        return -EINVAL;
    if (block->offset % unit || block->length % unit)
        return -EINVAL;
    return 0;
}

static int blk_parse_data(struct blk_request *req, enum block_op op, uint64_t sector)
{
    const struct virtio_blk *blk = req->blk;
    struct block_request *block = &req->block;

    block->op = op;
    block->data = op == BLOCK_READ ? req->chain.writable : req->chain.readable;
    block->length = block->data.length;
    if (op == BLOCK_WRITE && blk->block->read_only)
        return -EROFS;
    if (block->length >= UINT32_MAX) /* what the used ring can count, with the status */
        return -EINVAL;
    if (op == BLOCK_READ)
        req->written = (uint32_t)block->length;
    return blk_place(blk, block, sector);
}

/* One range a request: all that is offered. */
static int blk_parse_range(struct blk_request *req, enum block_op op)
{
    const struct virtio_blk *blk = req->blk;
    struct block_request *block = &req->block;
    struct blk_range range;
    uint32_t count, flags;

    if (req->chain.readable.length != sizeof(range))
        return -EINVAL;
    sg_read(&req->chain.readable, &range, sizeof(range));
    count = le32_load(&range.count);
    flags = le32_load(&range.flags);
    if (flags & ~(op == BLOCK_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
        return -EOPNOTSUPP;
    if (blk->block->read_only)
        return -EROFS;
    if (count > (op == BLOCK_DISCARD ? DISCARD_MAX : ZEROES_MAX))
        return -EINVAL;

    block->op = op;
    block->unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    block->length = (uint64_t)count * SECTOR_SIZE;
    return blk_place(blk, block, le64_load(&range.sector));
}

static int blk_get_id(struct blk_request *req)
{
    struct sg *room = &req->chain.writable;
    size_t len = room->length < VIRTIO_BLK_ID_BYTES ? room->length : VIRTIO_BLK_ID_BYTES;

    sg_write(room, req->blk->serial, len);
    req->written = (uint32_t)len;
    return 0;
}

/* Turns the guest's request into ours, or does it. 0, or why it cannot be done. */
static int blk_parse(struct blk_request *req)
{
    struct blk_header header;

    /* Virtio 1.2, 5.2.6.2: without FLUSH the driver takes a finished write for a safe one. */
    req->block = (struct block_request){
        .op = BLOCK_READ,
        .durable = !virtio_has_feature(&req->blk->virtio, VIRTIO_BLK_F_FLUSH),
        .done = blk_done,
    };
    req->written = 0;
    req->status = sg_take_last_byte(&req->chain.writable);
    if (!sg_read(&req->chain.readable, &header, sizeof(header)) || !req->status)
        return -EINVAL;

    switch (le32_load(&header.type)) {
    case VIRTIO_BLK_T_IN:
        return blk_parse_data(req, BLOCK_READ, le64_load(&header.sector));
    case VIRTIO_BLK_T_OUT:
        return blk_parse_data(req, BLOCK_WRITE, le64_load(&header.sector));
    case VIRTIO_BLK_T_FLUSH:
        req->block.op = BLOCK_FLUSH;
        return 0;
    case VIRTIO_BLK_T_GET_ID:
        return blk_get_id(req);
    case VIRTIO_BLK_T_DISCARD:
        return blk_parse_range(req, BLOCK_DISCARD);
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return blk_parse_range(req, BLOCK_WRITE_ZEROES);
    default:
        return -EOPNOTSUPP;
    }
}

static void blk_start_request(struct blk_request *req)
{
    int error = blk_parse(req);

    req->blk->in_flight++;
    if (error || (req->block.op != BLOCK_FLUSH && req->block.length == 0))
        blk_finish(req, error);
    else
        block_submit(req->blk->block, &req->block);
}

/* Starts the next requests, BATCH at most; returns how many. */
static unsigned blk_start_batch(struct virtio_blk *blk)
{
    struct blk_request *req = blk_take(blk);
    unsigned count = 0;

    for (; count < BATCH && virtq_pop(virtio_virtq(&blk->virtio, 0), &req->chain); count++) {
        blk_start_request(req);
        req = blk_take(blk);
    }
    blk_give_back(blk, req);
    if (count > 0)
        block_commit(blk->block);
    return count;
}

/*
 * How long to look for the next request before sleeping. If the user leaves it to us: about twice
 * as long as a doorbell and a wake-up take, and only while it pays. A request that comes so soon
 * after the one before, slept for or not, is a point, and LOOK_PROFIT more if a look found it; a
 * look in vain costs LOOK_PRICE. So a guest that pauses longer loses nothing; one with a CPU in
 * common with its disk, whose requests come soon but never while we look, half a microsecond each;
 * and others pay with the fifth look, at worst, for four that found something. What is in flight is
 * not waited for: most disks take longer, and there is less to gain with many requests under way.
 */
static uint64_t blk_patience(const struct virtio_blk *blk)
{
    if (blk->poll_us >= 0)
        return (uint64_t)blk->poll_us * 1000;
    return blk->in_flight == 0 && blk->points >= LOOK_PRICE ? LOOK_NS : 0;
}

static void blk_earn(struct virtio_blk *blk, unsigned points)
{
    points += blk->points;
    blk->points = points < MAX_POINTS ? points : MAX_POINTS;
}

/* Looks for the next request, and completes what gets done meanwhile: is it there? */
static bool blk_look(struct virtio_blk *blk)
{
    struct virtq *q = virtio_virtq(&blk->virtio, 0);
    uint64_t patience = blk_patience(blk), start = clock_now_ns();

    blk->idle_since = blk->in_flight == 0 ? start : 0;
    if (patience == 0)
        return false;
    virtq_disable_notification(q);
    virtq_flush(q);
    do {
        if (virtq_waiting(q) > 0) {
            blk_earn(blk, LOOK_PROFIT);
            return true;
        }
        block_commit(blk->block);
    } while (clock_now_ns() - start < patience);
    blk->points -= blk->points < LOOK_PRICE ? blk->points : LOOK_PRICE;
    return false;
}

/* The first request after none was in flight: did it come soon? */
static void blk_end_idle(struct virtio_blk *blk)
{
    if (blk->idle_since == 0 || virtq_waiting(virtio_virtq(&blk->virtio, 0)) == 0)
        return;
    if (clock_now_ns() - blk->idle_since < LOOK_NS)
        blk_earn(blk, 1);
    blk->idle_since = 0;
}

/*
 * The guest goes on with what is done of one batch while the next is under way, and needs no kick
 * for what it adds meanwhile.
 */
static void blk_serve(struct virtio_blk *blk)
{
    struct virtq *q = virtio_virtq(&blk->virtio, 0);
    unsigned taken = 0, count;
    bool parked;

    blk->serving = true;
    do {
        blk_end_idle(blk);
        count = blk_start_batch(blk);
        taken += count ? count : 1; /* or one that was found and taken back */
        parked = count < BATCH && !blk_look(blk) && virtq_enable_notification(q);
    } while (!parked && taken < QUEUE_SIZE);
    blk->serving = false;

    virtq_flush(q);
    if (!parked)
        virtio_kick(&blk->virtio, 0); /* the rest in the loop's next round: others get theirs */
}

static void blk_kick(struct virtio_device *v, unsigned queue)
{
    blk_serve(blk_of(v));
}

/* After a run of completions: one look at whether the driver wants an interrupt. */
static void blk_completed(void *owner)
{
    struct virtio_blk *blk = owner;

    if (blk->serving || blk->in_flight > 0)
        virtq_flush(virtio_virtq(&blk->virtio, 0));
    else
        blk_serve(blk); /* out of a sleep: what follows may come soon */
}

static uint64_t blk_features(const struct virtio_device *v)
{
    const struct block *block = container_of(v, const struct virtio_blk, virtio)->block;
    uint64_t features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
                        BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_FLUSH);

    if (block->read_only)
        features |= BIT(VIRTIO_BLK_F_RO);
    if (block->can_discard)
        features |= BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
    return features;
}

static uint8_t log2_of(uint32_t value)
{
    return value ? (uint8_t)(31 - __builtin_clz(value)) : 0;
}

/* Virtio 1.2, 5.2.4: struct virtio_blk_config, the fields of the features we offer. */
static void blk_read_config(struct virtio_device *v, void *config)
{
    const struct block *block = blk_of(v)->block;
    struct virtio_blk_config *c = config;

    c->capacity = htole64(block->size / SECTOR_SIZE);
    c->seg_max = htole32(SEG_MAX);
    c->blk_size = htole32(block->logical_size);
    c->physical_block_exp = log2_of(block->physical_size / block->logical_size);
    c->opt_io_size = htole32(block->optimal_size / block->logical_size);
    c->max_discard_sectors = htole32(DISCARD_MAX);
    c->max_discard_seg = htole32(1);
    c->discard_sector_alignment = htole32(block->logical_size / SECTOR_SIZE);
    c->max_write_zeroes_sectors = htole32(ZEROES_MAX);
    c->max_write_zeroes_seg = htole32(1);
    c->write_zeroes_may_unmap = 1;
}

/* Ends what is in flight, and begins nothing more; false if it takes too long. */
static bool blk_end(struct virtio_blk *blk, uint64_t deadline_ns)
{
    bool ended;

    blk->serving = true;
    ended = block_drain(blk->block, deadline_ns);
    blk->serving = false;
    blk->idle_since = 0; /* a pause is none of the guest's */
    return ended;
}

static void blk_stop(struct virtio_device *v)
{
    blk_end(blk_of(v), BLOCK_NO_DEADLINE);
}

static bool blk_pause(struct virtio_device *v, uint64_t deadline_ns)
{
    return blk_end(blk_of(v), deadline_ns);
}

/* What a driver has been told of the disk. How well polling paid is learned anew. */
static void blk_state(struct virtio_device *v, struct state *s)
{
    const struct block *block = blk_of(v)->block;

    state_same(s, "size", block->size);
    state_same(s, "logical_size", block->logical_size);
    state_same(s, "read_only", block->read_only);
}

static uint64_t blk_calls(const struct virtio_device *v)
{
    return container_of(v, const struct virtio_blk, virtio)->block->calls;
}

static void blk_destroy(struct virtio_device *v)
{
    struct virtio_blk *blk = blk_of(v);

    block_close(blk->block);
    free(blk);
}

static const struct virtio_ops blk_ops = {
    .type = VIRTIO_ID_BLOCK,
    .queue_size = QUEUE_SIZE,
    .config_size = CONFIG_SIZE,
    .features = blk_features,
    .read_config = blk_read_config,
    .kick = blk_kick,
    .stop = blk_stop,
    .pause = blk_pause,
    .calls = blk_calls,
    .destroy = blk_destroy,
};

int virtio_blk_create(struct virtio_device **ret, const char *name, struct block *block,
                      const char *serial, int poll_us, const struct guest_memory *mem,
                      struct loop *loop)
{
    struct virtio_blk *blk = calloc(1, sizeof(*blk));
    int error;

    if (!blk)
        return -ENOMEM;
    error = virtio_init(&blk->virtio, &blk_ops, blk_state, 1, name, mem, loop);
    if (error) {
        free(blk);
        return error;
    }
    blk->block = block;
    blk->poll_us = poll_us;
    block->completed = blk_completed;
    block->owner = blk;
    memcpy(blk->serial, *serial ? serial : name,
           strnlen(*serial ? serial : name, VIRTIO_BLK_ID_BYTES));
    *ret = &blk->virtio;
    return 0;
}
