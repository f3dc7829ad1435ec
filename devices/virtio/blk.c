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
#define BATCH       16u                  /* requests per block_commit() */
#define SEG_MAX     (QUEUE_SIZE - 2)     /* without the header and the status */
#define SEG_SIZE    (64 * KIB)           /* what Linux makes of a disk without a limit, too */
#define DATA_MAX    (SEG_MAX * SEG_SIZE) /* in one request: nearly 8 MiB */
#define DISCARD_MAX (1u << 22)           /* sectors in one request: 2 GiB */
#define ZEROES_MAX  (1u << 16)           /* 32 MiB: some hosts have to write the zeros */

/* Adaptive polling, see below. */
#define POLL_WINDOW_NS 32000u
#define POLL_GAIN      16u
#define POLL_COST      64u
#define MAX_SCORE      (4 * POLL_COST)

/* Configuration space up to the fields of DISCARD and WRITE_ZEROES, in whole words. */
#define CONFIG_SIZE (offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4)

/* Virtio 1.2, 5.2.6: the start of every request. */
struct blk_header {
    le32 type;
    le32 reserved;
    le64 sector;
};

/* 5.2.6: the data of a discard or write-zeroes request. */
struct blk_range {
    le64 sector;
    le32 count; /* sectors */
    le32 flags;
};

struct blk_request {
    struct block_request block;
    struct virtio_blk *blk;
    struct blk_request *next_free;
    uint8_t *status;  /* in guest memory; NULL if the chain has no writable byte */
    uint32_t written; /* bytes written to the guest, without the status */
    struct virtq_chain chain;
};

struct virtio_blk {
    struct virtio_device virtio;
    struct block *block;
    char serial[VIRTIO_BLK_ID_BYTES];
    int poll_us; /* see virtio_blk_create() */

    bool serving;        /* within blk_serve(), or draining: completions start nothing */
    unsigned in_flight;  /* requests popped and not yet pushed */
    uint64_t idle_since; /* clock_now_ns() when the device became idle; 0: it is not */
    unsigned score;      /* of adaptive polling */

    /* A free list, last in first out, so that requests never needed are never touched. */
    struct blk_request *free;
    unsigned unused;                             /* requests[unused] and later were never used */
    struct blk_request requests[QUEUE_SIZE + 1]; /* one more than can be in flight */
};

static struct virtio_blk *blk_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_blk, virtio);
}

static struct blk_request *blk_alloc_request(struct virtio_blk *blk)
{
    struct blk_request *req = blk->free;

    if (req) {
        blk->free = req->next_free;
    } else {
        req = &blk->requests[blk->unused++];
        req->blk = blk;
    }
    return req;
}

static void blk_free_request(struct virtio_blk *blk, struct blk_request *req)
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

static void blk_complete(struct blk_request *req, int error)
{
    struct virtio_blk *blk = req->blk;
    uint32_t written = error ? 0 : req->written;

    if (req->status) {
        *req->status = blk_status(error);
        written++;
    }
    virtq_push(virtio_virtq(&blk->virtio, 0), &req->chain, written);
    blk_free_request(blk, req);
    blk->in_flight--;
}

static void blk_done(struct block_request *block, int error)
{
    blk_complete(container_of(block, struct blk_request, block), error);
}

/* Sets block->offset. -EINVAL unless the request is in whole blocks and within the disk. */
static int blk_set_offset(const struct virtio_blk *blk, struct block_request *block,
                          uint64_t sector)
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
    if (block->length > DATA_MAX) /* all over one page of the guest's, for example */
        return -EINVAL;
    if (op == BLOCK_READ)
        req->written = (uint32_t)block->length;
    return blk_set_offset(blk, block, sector);
}

/* One range per request: the configuration space offers no more. */
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
    return blk_set_offset(blk, block, le64_load(&range.sector));
}

static int blk_get_id(struct blk_request *req)
{
    struct sg *room = &req->chain.writable;
    size_t len = room->length < VIRTIO_BLK_ID_BYTES ? room->length : VIRTIO_BLK_ID_BYTES;

    sg_write(room, req->blk->serial, len);
    req->written = (uint32_t)len;
    return 0;
}

/*
 * Fills in req->block from the chain. Length 0 and no flush: there is nothing to submit. -errno for
 * a request that fails.
 */
static int blk_parse(struct blk_request *req)
{
    struct blk_header header;

    /* Virtio 1.2, 5.2.6.2: without FLUSH a completed write must be on stable storage. */
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
        blk_complete(req, error);
    else
        block_submit(req->blk->block, &req->block);
}

/* Pops and submits up to BATCH requests; returns how many. */
static unsigned blk_start_batch(struct virtio_blk *blk)
{
    struct blk_request *req = blk_alloc_request(blk);
    unsigned count = 0;

    for (; count < BATCH && virtq_pop(virtio_virtq(&blk->virtio, 0), &req->chain); count++) {
        blk_start_request(req);
        req = blk_alloc_request(blk);
    }
    blk_free_request(blk, req);
    if (count > 0)
        block_commit(blk->block);
    return count;
}

/*
 * Adaptive polling, as KVM's halt_poll_ns or QEMU's poll-max-ns: before the loop sleeps, the device
 * polls the queue for a window of POLL_WINDOW_NS, about twice what a notification and a wake-up
 * take. It polls only when idle, and while score >= POLL_COST, where
 *
 *     score += 1           for a request within the window after the queue ran empty
 *     score += POLL_GAIN   in addition, if polling found it
 *     score -= POLL_COST   for a window in which none came
 *
 * within 0 .. MAX_SCORE. So a guest whose requests are further apart is not polled. In the worst
 * case, four polls that succeed pay for one that fails. If requests come soon but never while the
 * device polls (guest and disk share a CPU), one window in 64 requests is lost, half a microsecond
 * each. Requests in flight are not polled for: most disks take longer than the window.
 */

/* How long to poll now, in nanoseconds; 0: not at all. poll=US sets a fixed window. */
static uint64_t blk_poll_window(const struct virtio_blk *blk)
{
    if (blk->poll_us >= 0)
        return (uint64_t)blk->poll_us * 1000;
    return blk->in_flight == 0 && blk->score >= POLL_COST ? POLL_WINDOW_NS : 0;
}

static void blk_add_score(struct virtio_blk *blk, unsigned points)
{
    points += blk->score;
    blk->score = points < MAX_SCORE ? points : MAX_SCORE;
}

/* Polls for the next request and for completions. True if a request can be popped. */
static bool blk_poll(struct virtio_blk *blk)
{
    struct virtq *q = virtio_virtq(&blk->virtio, 0);
    uint64_t window = blk_poll_window(blk), start = clock_now_ns();

    blk->idle_since = blk->in_flight == 0 ? start : 0;
    if (window == 0)
        return false;
    virtq_disable_notification(q);
    virtq_flush(q);
    do {
        if (virtq_waiting(q) > 0) {
            blk_add_score(blk, POLL_GAIN);
            return true;
        }
        block_commit(blk->block);
    } while (clock_now_ns() - start < window);
    blk->score -= blk->score < POLL_COST ? blk->score : POLL_COST;
    return false;
}

/* Ends an idle time if there is a request, and scores it if it came within the window. */
static void blk_end_idle(struct virtio_blk *blk)
{
    if (blk->idle_since == 0 || virtq_waiting(virtio_virtq(&blk->virtio, 0)) == 0)
        return;
    if (clock_now_ns() - blk->idle_since < POLL_WINDOW_NS)
        blk_add_score(blk, 1);
    blk->idle_since = 0;
}

/*
 * Serves the queue in batches, so that the guest gets the first results while later requests are
 * started. Notifications are enabled only when the queue is empty.
 */
static void blk_serve(struct virtio_blk *blk)
{
    struct virtq *q = virtio_virtq(&blk->virtio, 0);
    unsigned served = 0, count;
    bool idle;

    blk->serving = true;
    do {
        blk_end_idle(blk);
        count = blk_start_batch(blk);
        served += count ? count : 1; /* 0: the driver retracted what blk_poll() saw */
        idle = count < BATCH && !blk_poll(blk) && virtq_enable_notification(q);
    } while (!idle && served < QUEUE_SIZE);
    blk->serving = false;

    virtq_flush(q);
    if (!idle)
        virtio_kick(&blk->virtio, 0); /* continue after the loop's other devices */
}

static void blk_kick(struct virtio_device *v, unsigned queue)
{
    blk_serve(blk_of(v));
}

/* After one or more completions: at most one interrupt for all of them. */
static void blk_completed(void *owner)
{
    struct virtio_blk *blk = owner;

    if (blk->serving || blk->in_flight > 0)
        virtq_flush(virtio_virtq(&blk->virtio, 0));
    else
        blk_serve(blk); /* idle now: may poll for the next request */
}

static uint64_t blk_features(const struct virtio_device *v)
{
    const struct block *block = container_of(v, const struct virtio_blk, virtio)->block;
    uint64_t features = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) |
                        BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
                        BIT(VIRTIO_BLK_F_FLUSH);

    if (block->read_only)
        features |= BIT(VIRTIO_BLK_F_RO);
    if (block->can_discard)
        features |= BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
    return features;
}

static uint8_t blk_log2(uint32_t value)
{
    return value ? (uint8_t)(31 - __builtin_clz(value)) : 0;
}

/* Virtio 1.2, 5.2.4: the fields of the features offered. */
static void blk_read_config(struct virtio_device *v, void *config)
{
    const struct block *block = blk_of(v)->block;
    struct virtio_blk_config *c = config;

    c->capacity = htole64(block->size / SECTOR_SIZE);
    c->size_max = htole32(SEG_SIZE);
    c->seg_max = htole32(SEG_MAX);
    c->blk_size = htole32(block->logical_size);
    c->physical_block_exp = blk_log2(block->physical_size / block->logical_size);
    c->opt_io_size = htole32(block->optimal_size / block->logical_size);
    c->max_discard_sectors = htole32(DISCARD_MAX);
    c->max_discard_seg = htole32(1);
    c->discard_sector_alignment = htole32(block->logical_size / SECTOR_SIZE);
    c->max_write_zeroes_sectors = htole32(ZEROES_MAX);
    c->max_write_zeroes_seg = htole32(1);
    c->write_zeroes_may_unmap = 1;
}

/* Waits for the requests in flight and starts no others. False at the deadline. */
static bool blk_drain(struct virtio_blk *blk, uint64_t deadline_ns)
{
    bool drained;

    blk->serving = true;
    drained = block_drain(blk->block, deadline_ns);
    blk->serving = false;
    blk->idle_since = 0; /* the time until the next request says nothing about the guest */
    return drained;
}

static void blk_stop(struct virtio_device *v)
{
    blk_drain(blk_of(v), BLOCK_NO_DEADLINE);
}

static bool blk_pause(struct virtio_device *v, uint64_t deadline_ns)
{
    return blk_drain(blk_of(v), deadline_ns);
}

/* What the driver has read in configuration space must stay true. The score is not saved. */
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
