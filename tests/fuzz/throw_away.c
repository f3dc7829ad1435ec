/* SPDX-License-Identifier: MIT */

/*
 * Requests to a throw-away layer above an image in memory, compared with what a disk would hold:
 * four bytes of input are one request.
 */
#include "devices/block/throw_away.h"

#include <errno.h>
#include <string.h>

#include "devices/block/block.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define SECTOR  512u
#define SECTORS 128u
#define SIZE    (SECTORS * SECTOR)
#define STEP    4
#define PIECES  5

struct image {
    struct block block;
    struct block_request *first;
    uint8_t bytes[SIZE];
};

static void image_submit(struct block *block, struct block_request *request)
{
    struct image *image = container_of(block, struct image, block);

    demand(request->op == BLOCK_READ && request->length > 0 && request->offset <= SIZE &&
           request->length <= SIZE - request->offset && request->length == request->data.length);
    request->next = image->first;
    image->first = request;
}

static void image_commit(struct block *block)
{
}

static bool image_drain(struct block *block, uint64_t deadline_ns)
{
    struct image *image = container_of(block, struct image, block);
    bool any = image->first;

    while (image->first) {
        struct block_request *request = image->first;

        image->first = request->next;
        sg_trim(&request->data); /* as the engines do */
        demand(sg_write(&request->data, image->bytes + request->offset, request->length));
        request->done(request, 0);
    }
    if (any)
        block->completed(block->owner);
    return true;
}

static void image_close(struct block *block)
{
    demand(!container_of(block, struct image, block)->first);
}

static const struct block_ops image_ops = {
    .submit = image_submit, .commit = image_commit, .drain = image_drain, .close = image_close
};

static struct image image = { .block = {
                                  .ops = &image_ops, .size = SIZE, .logical_size = SECTOR } };
static uint8_t model[SIZE], data[SIZE];
static struct block *disk;

static void completed(void *owner)
{
}

struct waiting {
    struct block_request request;
    unsigned done;
    int error;
    struct iovec iov[PIECES];
};

static void set_done(struct block_request *request, int error)
{
    struct waiting *waiting = container_of(request, struct waiting, request);

    waiting->done++;
    waiting->error = error;
}

/* The data in pieces whose lengths depend on `shape`. */
static void cut(struct waiting *waiting, size_t length, unsigned shape)
{
    size_t at = 0;

    for (unsigned i = 0; i < PIECES; i++) {
        size_t piece = i + 1 == PIECES ? length - at : (length - at) * (shape >> i & 3) / 4;

        waiting->iov[i] = (struct iovec){ data + at, piece };
        at += piece;
    }
    waiting->request.data = (struct sg){ .iov = waiting->iov, .length = length };
}

static void apply(const struct waiting *waiting, uint64_t offset, uint64_t length, uint8_t value)
{
    if (waiting->error) {
        demand(waiting->error == -ENOSPC &&
               (waiting->request.op == BLOCK_WRITE || waiting->request.op == BLOCK_WRITE_ZEROES));
        return;
    }
    switch (waiting->request.op) {
    case BLOCK_READ:
        demand(memcmp(data, model + offset, length) == 0);
        break;
    case BLOCK_WRITE:
        memset(model + offset, value, length);
        break;
    case BLOCK_WRITE_ZEROES:
        memset(model + offset, 0, length);
        break;
    case BLOCK_DISCARD:
        memcpy(model + offset, image.bytes + offset, length);
        break;
    case BLOCK_FLUSH:
        break;
    }
}

static void act(const uint8_t *b)
{
    static const enum block_op ops[] = { BLOCK_READ,  BLOCK_READ,         BLOCK_WRITE,
                                         BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_DISCARD,
                                         BLOCK_FLUSH };
    struct waiting waiting = { .request = { .op = ops[b[0] % ARRAY_SIZE(ops)], .done = set_done } };
    uint64_t offset = b[1] % SECTORS * SECTOR, length = (b[2] + 1) * SECTOR;

    if (length > SIZE - offset)
        length = SIZE - offset;
    if (waiting.request.op != BLOCK_FLUSH) {
        waiting.request.offset = offset;
        waiting.request.length = length;
    }
    if (waiting.request.op == BLOCK_READ || waiting.request.op == BLOCK_WRITE)
        cut(&waiting, length, b[3]);
    memset(data, b[3], length);
    block_submit(disk, &waiting.request);
    demand(!waiting.done);
    block_commit(disk);
    demand(block_drain(disk, BLOCK_NO_DEADLINE) && waiting.done == 1);
    apply(&waiting, offset, length, b[3]);
}

/* What is written, put over the image, is the disk. */
static void check_pieces(void)
{
    struct throw_away_piece piece;
    uint64_t at = 0, end = 0;

    memcpy(data, image.bytes, SIZE);
    while (throw_away_next(disk, &at, &piece)) {
        demand(piece.length > 0 && piece.offset >= end && piece.offset <= SIZE &&
               piece.length <= SIZE - piece.offset && at == piece.offset + piece.length);
        end = at;
        if (piece.bytes)
            memcpy(data + piece.offset, piece.bytes, piece.length);
        else
            memset(data + piece.offset, 0, piece.length);
    }
    demand(memcmp(data, model, SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    log_set_level(LOG_LEVEL_ERROR);
    for (unsigned i = 0; i < SIZE && !image.bytes[SIZE - 1]; i++)
        image.bytes[i] = (uint8_t)(i / SECTOR * 2 + 1); /* never 0 */
    memcpy(model, image.bytes, SIZE);
    if (size == 0)
        return 0;
    demand(throw_away_create(&disk, &image.block, bytes[0] * 4096ull, "disk") == 0);
    disk->completed = completed;
    for (bytes++, size--; size >= STEP; bytes += STEP, size -= STEP)
        act(bytes);
    check_pieces();
    block_close(disk);
    return 0;
}
