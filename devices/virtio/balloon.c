/* SPDX-License-Identifier: MIT */
#include "devices/virtio/balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>

#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

/*
 * Virtio 1.2, 5.5.2 gives the queues fixed numbers: statistics 2, hints 3, reports 4. Linux leaves
 * out those whose feature is not offered, so that reports are 2. Neither statistics nor hints are
 * offered here, so each of the three queues takes reports.
 */
enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_REPORT, QUEUES = 5 };

#define BALLOON_PAGE 4096u      /* bytes: the unit of page numbers, whatever the guest's pages */
#define BALLOON_PFNS 256u       /* page numbers used of one request; Linux sends no more */
#define TURN         (64 * MIB) /* given back before the loop polls again */
#define PIECE        (1 * MIB)  /* what a piece counts at least: it is one system call */

struct virtio_balloon {
    struct virtio_device virtio;
    const struct guest_memory *mem;
    uint32_t actual; /* pages in the balloon, as the driver says */
    size_t reported; /* bytes done of the report at the queue's front, in earlier turns */
    uint64_t calls;  /* of madvise() */
    struct virtq_chain chain;
};

static struct virtio_balloon *balloon_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_balloon, virtio);
}

static void balloon_spend(size_t *left, size_t length)
{
    size_t cost = length < PIECE ? PIECE : length;

    *left -= cost < *left ? cost : *left;
}

static void balloon_give_back(struct virtio_balloon *balloon, void *host, size_t length,
                              size_t *left)
{
    guest_memory_forget(balloon->mem, host, length);
    balloon->calls++;
    balloon_spend(left, length);
}

/* 5.5.6.7: the buffers are the free pages. False if some of them are left to the next turn. */
static bool balloon_report(struct virtio_balloon *balloon, size_t *left)
{
    struct sg *pages = &balloon->chain.writable;

    if (!sg_skip(pages, balloon->reported))
        return true; /* the driver has replaced a report that it had sent */
    while (pages->length > 0 && *left > 0) {
        struct iovec piece = sg_front(pages);
        size_t length = piece.iov_len < TURN ? piece.iov_len : TURN;

        balloon_give_back(balloon, piece.iov_base, length, left);
        sg_skip(pages, length);
        balloon->reported += length;
    }
    return pages->length == 0;
}

/* 5.5.6: an array of page numbers. NULL, or what is wrong with it. */
static const char *balloon_inflate(struct virtio_balloon *balloon, size_t *left)
{
    le32 pfn;

    for (unsigned i = 0; i < BALLOON_PFNS && sg_read(&balloon->chain.readable, &pfn, sizeof(pfn));
         i++) {
        void *page = guest_ptr(balloon->mem, (gpa_t)le32_load(&pfn) * BALLOON_PAGE, BALLOON_PAGE);

        if (!page)
            return "page outside RAM";
        balloon_give_back(balloon, page, BALLOON_PAGE, left);
    }
    return NULL;
}

/* Serves the request that was popped. False if it takes another turn. */
static bool balloon_serve(struct virtio_balloon *balloon, unsigned queue, size_t *left)
{
    const char *fault = NULL;

    balloon_spend(left, 0);
    if (queue >= QUEUE_REPORT)
        return balloon_report(balloon, left);
    if (queue == QUEUE_INFLATE)
        fault = balloon_inflate(balloon, left);
    if (fault)
        virtq_break(virtio_virtq(&balloon->virtio, queue), fault);
    return true; /* deflated pages are there again when the guest touches them */
}

static void balloon_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_balloon *balloon = balloon_of(v);
    struct virtq *q = virtio_virtq(v, queue);
    size_t left = TURN;

    while (left > 0 && virtq_pop(q, &balloon->chain)) {
        if (!balloon_serve(balloon, queue, &left)) {
            virtq_rewind(q, 1);
            break;
        }
        virtq_push(q, &balloon->chain, 0);
        balloon->reported = 0;
    }
    virtq_flush(q);
    if (!virtq_enable_notification(q))
        virtio_kick(v, queue); /* continue after the loop's other devices */
}

/* 5.5.3: a driver may take pages back before it runs out of memory. */
static uint64_t balloon_features(const struct virtio_device *v)
{
    return BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | BIT(VIRTIO_BALLOON_F_REPORTING);
}

static void balloon_read_config(struct virtio_device *v, void *config)
{
    struct virtio_balloon_config *c = config;

    c->num_pages = 0;
    c->actual = htole32(balloon_of(v)->actual);
}

static void balloon_write_config(struct virtio_device *v, unsigned offset, unsigned size,
                                 uint64_t value)
{
    if (size == 4 && offset == offsetof(struct virtio_balloon_config, actual))
        balloon_of(v)->actual = (uint32_t)value;
}

static void balloon_stop(struct virtio_device *v)
{
    balloon_of(v)->actual = 0;
    balloon_of(v)->reported = 0;
}

/* `reported` is not saved: to give pages back twice does no harm. */
static void balloon_state(struct virtio_device *v, struct state *s)
{
    struct virtio_balloon *balloon = balloon_of(v);

    state_field(s, balloon, actual);
}

static uint64_t balloon_calls(const struct virtio_device *v)
{
    return container_of(v, const struct virtio_balloon, virtio)->calls;
}

static void balloon_destroy(struct virtio_device *v)
{
    free(balloon_of(v));
}

static const struct virtio_ops balloon_ops = {
    .type = VIRTIO_ID_BALLOON,
    .queue_size = 64,
    .config_size = offsetof(struct virtio_balloon_config, actual) + 4,
    .features = balloon_features,
    .read_config = balloon_read_config,
    .write_config = balloon_write_config,
    .kick = balloon_kick,
    .stop = balloon_stop,
    .calls = balloon_calls,
    .destroy = balloon_destroy,
};

int virtio_balloon_create(struct virtio_device **ret, const char *name,
                          const struct guest_memory *mem, struct loop *loop)
{
    struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
    int error;

    if (!balloon)
        return -ENOMEM;
    error = virtio_init(&balloon->virtio, &balloon_ops, balloon_state, QUEUES, name, mem, loop);
    if (error < 0) {
        free(balloon);
        return error;
    }
    balloon->mem = mem;
    *ret = &balloon->virtio;
    return 0;
}
