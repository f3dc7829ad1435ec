/* SPDX-License-Identifier: MIT */
#include "devices/block/throw_away.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/write.h"

/*
 * One sparse mapping has a place for each byte of the disk, and behind it the map: a bit for each
 * sector that was written. A sector is the smallest unit of a request, so a write never has to read
 * the image first. A second map has a bit for each page of the mapping that may be in memory: these
 * are counted. A page that is not reads as zeros.
 */
#define SECTOR_SIZE 512u

struct throw_away {
    struct block block;
    struct block *image;
    const char *name;
    size_t page;       /* bytes of the host's pages */
    uint8_t *bytes;    /* the mapping */
    size_t mapped;     /* its size */
    uint64_t map_page; /* the first page of the map */
    uint64_t *written; /* the map, in the mapping */
    uint64_t *held;    /* a mapping of its own */
    size_t held_size;
    uint64_t max;  /* pages that may be held */
    uint64_t left; /* that may still be */
    bool full;     /* that was reported */
    struct block_request *submitted, **submitted_end;
};

static struct throw_away *throw_away_of(struct block *block)
{
    return container_of(block, struct throw_away, block);
}

/* Bits [from, end), of sectors or pages. */
struct span {
    uint64_t from, end;
};

/* The first bit of the span that has this value, or its end. */
static uint64_t bits_find(const uint64_t *bits, struct span span, bool value)
{
    for (uint64_t at = span.from; at < span.end; at = align_down(at, 64) + 64) {
        uint64_t word = (value ? bits[at / 64] : ~bits[at / 64]) >> at % 64;

        if (word) {
            at += (unsigned)__builtin_ctzll(word);
            return at < span.end ? at : span.end;
        }
    }
    return span.end;
}

/* Does not touch words that are right already. Returns how many bits it has changed. */
static uint64_t bits_set(uint64_t *bits, struct span span, bool value)
{
    uint64_t changed = 0;

    for (uint64_t at = span.from; at < span.end; at = align_down(at, 64) + 64) {
        uint64_t mask = ~0ull << at % 64, *word = &bits[at / 64];

        if (span.end - align_down(at, 64) < 64)
            mask &= ~(~0ull << span.end % 64);
        mask &= value ? ~*word : *word;
        if (mask)
            *word ^= mask;
        changed += (unsigned)__builtin_popcountll(mask);
    }
    return changed;
}

static uint64_t bits_count_clear(const uint64_t *bits, struct span span)
{
    uint64_t count = 0;

    while ((span.from = bits_find(bits, span, false)) < span.end) {
        uint64_t end = bits_find(bits, span, true);

        count += end - span.from;
        span.from = end;
    }
    return count;
}

static struct span span_of(const struct block_request *request)
{
    return (struct span){ request->offset / SECTOR_SIZE,
                          (request->offset + request->length) / SECTOR_SIZE };
}

/* The pages that have any of these bytes of the mapping. */
static struct span span_pages(const struct throw_away *t, uint64_t from, uint64_t end)
{
    return (struct span){ from / t->page, (end + t->page - 1) / t->page };
}

/* Pages of the map for these sectors, which are not none. */
static struct span span_map(const struct throw_away *t, struct span sectors)
{
    struct span pages = span_pages(t, sectors.from / 8, (sectors.end + 7) / 8);

    return (struct span){ t->map_page + pages.from, t->map_page + pages.end };
}

/* Counts pages before they are touched. -ENOSPC, with nothing changed, if they are too many. */
static int throw_away_hold(struct throw_away *t, struct span data, struct span map)
{
    uint64_t need = bits_count_clear(t->held, data) + bits_count_clear(t->held, map);

    if (need <= t->left) {
        t->left -= bits_set(t->held, data, true) + bits_set(t->held, map, true);
        return 0;
    }
    if (!t->full)
        log_warn("%s: its throw-away layer is full: the guest gets errors when it writes "
                 "(max=SIZE allows more)",
                 t->name);
    t->full = true;
    return -ENOSPC;
}

static int throw_away_write(struct throw_away *t, struct block_request *request)
{
    struct span sectors = span_of(request);
    int error = throw_away_hold(
        t, span_pages(t, request->offset, request->offset + request->length), span_map(t, sectors));

    if (error)
        return error;
    sg_read(&request->data, t->bytes + request->offset, request->length);
    bits_set(t->written, sectors, true);
    return 0;
}

/* Makes memory of the mapping zero: whole pages go back to the host. */
static int throw_away_zero_bytes(struct throw_away *t, uint64_t from, uint64_t end)
{
    struct span touched = span_pages(t, from, end),
                whole = { (from + t->page - 1) / t->page, end / t->page };

    if (bits_find(t->held, whole, true) < whole.end) {
        if (madvise(t->bytes + whole.from * t->page, (whole.end - whole.from) * t->page,
                    MADV_DONTNEED) < 0)
            return -errno;
        t->left += bits_set(t->held, whole, false);
    }
    while ((touched.from = bits_find(t->held, touched, true)) < touched.end) { /* two at most */
        uint64_t start = touched.from++ * t->page, stop = touched.from * t->page;

        start = start < from ? from : start;
        stop = stop > end ? end : stop;
        memset(t->bytes + start, 0, stop - start);
    }
    return 0;
}

static int throw_away_write_zeroes(struct throw_away *t, const struct block_request *request)
{
    struct span sectors = span_of(request), none = { 0, 0 };
    int error = throw_away_hold(t, none, span_map(t, sectors));

    if (!error)
        error = throw_away_zero_bytes(t, request->offset, request->offset + request->length);
    if (!error)
        bits_set(t->written, sectors, true);
    return error;
}

static int throw_away_discard(struct throw_away *t, const struct block_request *request)
{
    int error = throw_away_zero_bytes(t, request->offset, request->offset + request->length);

    if (!error)
        bits_set(t->written, span_of(request), false);
    return error;
}

/* Puts what was written over what the image has there. */
static void throw_away_overlay(const struct throw_away *t, struct span sectors, struct sg *data)
{
    while (sectors.from < sectors.end) {
        uint64_t start = bits_find(t->written, sectors, true), end;

        sg_skip(data, (start - sectors.from) * SECTOR_SIZE);
        sectors.from = start;
        end = bits_find(t->written, sectors, false);
        sg_write(data, t->bytes + start * SECTOR_SIZE, (end - start) * SECTOR_SIZE);
        sectors.from = end;
    }
}

/* A read of sectors of both kinds. */
struct throw_away_mixed {
    struct block_request image; /* reads all of them */
    struct block_request *whole;
    struct throw_away *layer;
    struct span sectors;
    struct sg data;
    struct iovec iov[]; /* of `data`: the engine changes those of the request */
};

static void throw_away_mixed_done(struct block_request *request, int error)
{
    struct throw_away_mixed *mixed = container_of(request, struct throw_away_mixed, image);
    struct block_request *whole = mixed->whole;

    if (!error)
        throw_away_overlay(mixed->layer, mixed->sectors, &mixed->data);
    free(mixed);
    whole->done(whole, error);
}

static int throw_away_read_mixed(struct throw_away *t, struct block_request *request)
{
    unsigned count = sg_trim(&request->data);
    struct throw_away_mixed *mixed = malloc(sizeof(*mixed) + count * sizeof(*mixed->iov));

    if (!mixed)
        return -ENOMEM;
    memcpy(mixed->iov, request->data.iov, count * sizeof(*mixed->iov));
    mixed->image = (struct block_request){ .op = BLOCK_READ,
                                           .offset = request->offset,
                                           .length = request->length,
                                           .data = request->data,
                                           .done = throw_away_mixed_done };
    mixed->whole = request;
    mixed->layer = t;
    mixed->sectors = span_of(request);
    mixed->data = (struct sg){ .iov = mixed->iov, .length = request->length };
    block_submit(t->image, &mixed->image);
    return 0;
}

/* Passes a read on to the image, unless all of it was written. False: it is complete. */
static bool throw_away_read(struct throw_away *t, struct block_request *request, int *ret_error)
{
    struct span sectors = span_of(request);

    *ret_error = 0;
    if (bits_find(t->written, sectors, true) == sectors.end) {
        block_submit(t->image, request);
        return true;
    }
    if (bits_find(t->written, sectors, false) < sectors.end) {
        *ret_error = throw_away_read_mixed(t, request);
        return *ret_error == 0;
    }
    throw_away_overlay(t, sectors, &request->data);
    return false;
}

/* Carries out a request. True if the image does it, and completes it later. */
static bool throw_away_perform(struct throw_away *t, struct block_request *request, int *ret_error)
{
    switch (request->op) {
    case BLOCK_READ:
        return throw_away_read(t, request, ret_error);
    case BLOCK_WRITE:
        *ret_error = throw_away_write(t, request);
        break;
    case BLOCK_WRITE_ZEROES:
        *ret_error = throw_away_write_zeroes(t, request);
        break;
    case BLOCK_DISCARD:
        *ret_error = throw_away_discard(t, request);
        break;
    case BLOCK_FLUSH: /* nothing outlives the process */
        *ret_error = 0;
        break;
    }
    return false;
}

static void throw_away_submit(struct block *block, struct block_request *request)
{
    struct throw_away *t = throw_away_of(block);

    request->next = NULL;
    *t->submitted_end = request;
    t->submitted_end = &request->next;
}

static void throw_away_completed(void *owner)
{
    struct throw_away *t = owner;

    t->block.calls = t->image->calls;
    t->block.completed(t->block.owner);
}

static void throw_away_commit(struct block *block)
{
    struct throw_away *t = throw_away_of(block);
    bool any = false;

    while (t->submitted) {
        struct block_request *request = t->submitted;
        int error = 0;

        t->submitted = request->next;
        if (!t->submitted)
            t->submitted_end = &t->submitted;
        if (throw_away_perform(t, request, &error))
            continue;
        any = true;
        request->done(request, error);
    }
    block_commit(t->image);
    if (any)
        throw_away_completed(t);
}

static bool throw_away_drain(struct block *block, uint64_t deadline_ns)
{
    struct throw_away *t = throw_away_of(block);

    throw_away_commit(block);
    return block_drain(t->image, deadline_ns);
}

static void throw_away_free(struct throw_away *t)
{
    if (t->bytes != MAP_FAILED)
        munmap(t->bytes, t->mapped);
    if (t->held != MAP_FAILED)
        munmap(t->held, t->held_size);
    free(t);
}

static void throw_away_close(struct block *block)
{
    struct throw_away *t = throw_away_of(block);

    throw_away_drain(block, BLOCK_NO_DEADLINE);
    block_close(t->image);
    throw_away_free(t);
}

/* Zeros, which what was copied before may not be. Not every file system makes holes. */
static int throw_away_write_zero_piece(const struct throw_away_piece *piece, int to)
{
    static uint8_t zeros[65536]; /* if it were const it would lie in the program, too */
    uint64_t at = 0;
    int error = 0;

    if (fallocate(to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)piece->offset,
                  (off_t)piece->length) == 0)
        return 0;
    if (errno != EOPNOTSUPP)
        return -errno;
    for (; at < piece->length && !error; at += sizeof(zeros)) {
        uint64_t left = piece->length - at;

        error = write_all_at(to, zeros, left < sizeof(zeros) ? left : sizeof(zeros),
                             piece->offset + at);
    }
    return error;
}

static int throw_away_write_piece(const struct throw_away_piece *piece, int to)
{
    if (!piece->bytes)
        return throw_away_write_zero_piece(piece, to);
    return write_all_at(to, piece->bytes, piece->length, piece->offset);
}

/* The image, and what was written over it. */
static int throw_away_copy(const struct block *block, int to, uint64_t max)
{
    const struct throw_away *t = container_of(block, struct throw_away, block);
    struct throw_away_piece piece;
    uint64_t at = 0;
    int error = block_copy(t->image, to, max);

    while (!error && throw_away_next(block, &at, &piece))
        error = throw_away_write_piece(&piece, to);
    return error;
}

static int throw_away_descriptor(const struct block *block)
{
    return block_descriptor(container_of(block, struct throw_away, block)->image);
}

static int throw_away_rewind(struct block *block)
{
    struct throw_away *t = throw_away_of(block);

    if (madvise(t->bytes, t->mapped, MADV_DONTNEED) < 0 ||
        madvise(t->held, t->held_size, MADV_DONTNEED) < 0)
        return -errno;
    t->left = t->max;
    t->full = false;
    return 0;
}

static const struct block_ops throw_away_ops = {
    .submit = throw_away_submit,
    .commit = throw_away_commit,
    .drain = throw_away_drain,
    .close = throw_away_close,
    .copy = throw_away_copy,
    .descriptor = throw_away_descriptor,
    .rewind = throw_away_rewind,
};

/* Without huge pages, of which a single sector would fill one; and not for core files. */
static void *throw_away_map(size_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map != MAP_FAILED) {
        madvise(map, size, MADV_NOHUGEPAGE);
        madvise(map, size, MADV_DONTDUMP);
    }
    return map;
}

int throw_away_create(struct block **ret, struct block *image, uint64_t max, const char *name)
{
    struct throw_away *t = calloc(1, sizeof(*t));
    size_t data;

    if (!t)
        return -ENOMEM;
    t->block = *image;
    t->block.ops = &throw_away_ops;
    t->block.read_only = false;
    t->block.can_discard = true;
    t->image = image;
    t->name = name;
    t->page = (size_t)sysconf(_SC_PAGESIZE);
    t->left = t->max = max / t->page;
    t->submitted_end = &t->submitted;

    data = align_up(image->size, t->page);
    t->mapped = data + align_up(image->size / SECTOR_SIZE / 8 + 8, t->page);
    t->map_page = data / t->page;
    t->held_size = align_up(t->mapped / t->page / 8 + 8, t->page);
    t->bytes = throw_away_map(t->mapped);
    t->held = throw_away_map(t->held_size);
    if (t->bytes == MAP_FAILED || t->held == MAP_FAILED) {
        throw_away_free(t);
        return -ENOMEM;
    }
    t->written = (uint64_t *)(t->bytes + data);
    image->completed = throw_away_completed;
    image->owner = t;
    *ret = &t->block;
    return 0;
}

bool throw_away_next(const struct block *block, uint64_t *at, struct throw_away_piece *ret)
{
    const struct throw_away *t = container_of(block, const struct throw_away, block);
    struct span sectors = { *at / SECTOR_SIZE, block->size / SECTOR_SIZE }, pages;
    uint64_t from, end;
    bool is_held;

    sectors.from = bits_find(t->written, sectors, true);
    if (sectors.from == sectors.end)
        return false;
    from = sectors.from * SECTOR_SIZE;
    end = bits_find(t->written, sectors, false) * SECTOR_SIZE;
    pages = span_pages(t, from, end);
    is_held = bits_find(t->held, pages, true) == pages.from;
    pages.end = bits_find(t->held, pages, !is_held);
    if (pages.end * t->page < end)
        end = pages.end * t->page;
    *ret = (struct throw_away_piece){ from, is_held ? t->bytes + from : NULL, end - from };
    *at = end;
    return true;
}
