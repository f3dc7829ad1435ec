/* SPDX-License-Identifier: MIT */
#include "devices/virtio/fs.h"

#include <errno.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "devices/fs/fuse.h"
#include "devices/fs/share.h"
#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/crew.h"
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

/*
 * Requests are served one after the other by the loop's leader (vmm/core/crew.h). One that is
 * still waiting for the host when another thread takes over is *slow*: that thread serves the next
 * ones, and the slow one's thread completes it later. So a dead network mount or a slow disk holds
 * up only those who use it.
 *
 * Slow requests occupy threads, so there may be only so many of them for one filesystem, and one
 * for each name that is looked up: it may be a mount point, whose filesystem is not known yet.
 * Further requests of the same kind are *parked* until a slow one is completed.
 */

/* Virtio 1.2, 5.11.2: FORGET goes to the high-priority queue, not behind other requests. */
enum { HIGH_PRIORITY, REQUESTS, QUEUES };

#define BURST         64u /* requests served before the loop polls again */
#define SLOW_REQUESTS 4u  /* for one filesystem */
#define SLOW_LOOKUPS  8u  /* in one filesystem: for what may be mounted there */
#define SLOW_MAX      (CREW_MAX - 4)

struct fs_request {
    struct fs_request *next; /* of slow, parked or free ones */
    unsigned queue;
    struct fuse_target target; /* of a slow or parked one */
    struct virtq_chain chain;
};

struct virtio_fs {
    struct virtio_device virtio;
    struct share *share;
    struct fuse *fuse;
    struct virtio_fs_config config;

    struct fs_request *current; /* being served by the leader, or NULL */
    struct fs_request *slow;
    struct fs_request *parked; /* the oldest first */
    struct fs_request *free;
    unsigned in_flight;  /* popped and not yet pushed */
    pthread_cond_t done; /* in_flight is 0 */
};

static struct virtio_fs *fs_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_fs, virtio);
}

/* The next request of the queue. NULL: none, or out of memory. */
static struct fs_request *fs_pop(struct virtio_fs *fs, unsigned queue)
{
    struct fs_request *request = fs->free ? fs->free : malloc(sizeof(*request));

    if (!request)
        return NULL;
    fs->free = request;
    request->next = NULL;
    if (!virtq_pop(virtio_virtq(&fs->virtio, queue), &request->chain))
        return NULL;
    fs->free = NULL;
    request->queue = queue;
    request->target = (struct fuse_target){ 0 };
    fs->in_flight++;
    return request;
}

/* Keeps one request for the next pop. */
static void fs_put(struct virtio_fs *fs, struct fs_request *request)
{
    if (fs->free) {
        free(request);
    } else {
        request->next = NULL;
        fs->free = request;
    }
    if (--fs->in_flight == 0)
        pthread_cond_broadcast(&fs->done);
}

static void fs_remove(struct fs_request **list, const struct fs_request *request)
{
    while (*list != request)
        list = &(*list)->next;
    *list = request->next;
}

static void fs_append(struct fs_request **list, struct fs_request *request)
{
    while (*list)
        list = &(*list)->next;
    request->next = NULL;
    *list = request;
}

static bool fs_is_crowded(const struct virtio_fs *fs, const struct fuse_target *target)
{
    unsigned alike = 0, all = 0;

    for (const struct fs_request *slow = fs->slow; slow; slow = slow->next) {
        const struct fuse_target *other = &slow->target;

        if (target->lookup && other->lookup && target->node == other->node &&
            target->name_hash == other->name_hash)
            return true;
        alike += target->device == other->device && target->lookup == other->lookup;
        all++;
    }
    return alike >= (target->lookup ? SLOW_LOOKUPS : SLOW_REQUESTS) || all >= SLOW_MAX;
}

/* Only when something is slow: otherwise there is nothing to wait behind. */
static bool fs_park(struct virtio_fs *fs, struct fs_request *request)
{
    if (!fs->slow || !fuse_target(fs->fuse, &request->chain.readable, &request->target) ||
        !fs_is_crowded(fs, &request->target))
        return false;
    fs_append(&fs->parked, request);
    return true;
}

/* Serves and pushes a request: flushed at once, as the next one may have to wait. */
static void fs_serve(struct virtio_fs *fs, struct fs_request *request)
{
    struct virtq *q = virtio_virtq(&fs->virtio, request->queue);
    struct sg readable = request->chain.readable, writable = request->chain.writable;

    virtq_push(q, &request->chain, fuse_serve(fs->fuse, &readable, &writable));
    virtq_flush(q);
}

/* As a thread whose request was slow: completes what is parked behind such ones. */
static void fs_serve_parked(struct virtio_fs *fs)
{
    struct fs_request *request = fs->parked;

    while (request && !loop_is_stopping(fs->virtio.loop)) {
        if (fs_is_crowded(fs, &request->target)) {
            request = request->next;
            continue;
        }
        fs_remove(&fs->parked, request);
        fs_append(&fs->slow, request);
        fs_serve(fs, request);
        fs_remove(&fs->slow, request);
        fs_put(fs, request);
        request = fs->parked;
    }
}

static void fs_serve_as_leader(struct virtio_fs *fs, struct fs_request *request)
{
    fs->current = request;
    fs_serve(fs, request);
    if (!loop_was_replaced(fs->virtio.loop)) {
        fs->current = NULL;
        fs_put(fs, request);
        return;
    }
    fs_remove(&fs->slow, request);
    fs_put(fs, request);
    fs_serve_parked(fs);
}

/* By the new leader. The old one did not get to look at its queues again. */
static void fs_taken_over(void *owner)
{
    struct virtio_fs *fs = owner;
    struct fs_request *request = fs->current;

    if (!request)
        return;
    fs->current = NULL;
    fuse_target(fs->fuse, &request->chain.readable, &request->target);
    fs_append(&fs->slow, request);
    for (unsigned i = 0; i < QUEUES; i++)
        virtio_kick(&fs->virtio, i);
}

static void fs_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_fs *fs = fs_of(v);
    struct fs_request *request;

    if (loop_was_replaced(v->loop)) /* while it served another queue */
        return;
    for (unsigned served = 0; served < BURST && (request = fs_pop(fs, queue)); served++) {
        if (fs_park(fs, request))
            continue;
        fs_serve_as_leader(fs, request);
        if (loop_was_replaced(v->loop))
            return;
    }
    if (!virtq_enable_notification(virtio_virtq(v, queue)))
        virtio_kick(v, queue); /* continue after the loop's other work */
}

static void fs_read_config(struct virtio_device *v, void *config)
{
    memcpy(config, &fs_of(v)->config, sizeof(struct virtio_fs_config));
}

static bool fs_wait(struct virtio_fs *fs, uint64_t deadline_ns)
{
    while (fs->in_flight > 0)
        if (!loop_wait(fs->virtio.loop, &fs->done, deadline_ns))
            return false;
    return true;
}

static void fs_stop(struct virtio_device *v)
{
    struct virtio_fs *fs = fs_of(v);

    while (fs->parked) {
        struct fs_request *request = fs->parked;

        fs->parked = request->next;
        fs_put(fs, request);
    }
    fs_wait(fs, UINT64_MAX);
    fuse_reset(fs->fuse);
}

static bool fs_pause(struct virtio_device *v, uint64_t deadline_ns)
{
    struct virtio_fs *fs = fs_of(v);

    if (fs_wait(fs, deadline_ns))
        return true;
    log_warn("%s: the host has not answered %u requests for files yet", v->name, fs->in_flight);
    return false;
}

static void fs_destroy(struct virtio_device *v)
{
    struct virtio_fs *fs = fs_of(v);

    free(fs->free);
    pthread_cond_destroy(&fs->done);
    fuse_destroy(fs->fuse);
    share_close(fs->share);
    free(fs);
}

struct fs_state {
    struct virtio_fs *fs;
    struct state *s;
    unsigned lost;
};

static void fs_do_state(void *arg)
{
    struct fs_state *state = arg;

    state->lost = fuse_state(state->fs->fuse, state->s);
}

/* On the loop, so that files are reopened by a thread that is confined. */
static void fs_state(struct virtio_device *v, struct state *s)
{
    struct fs_state state = { .fs = fs_of(v), .s = s };

    loop_call(v->loop, fs_do_state, &state);
    if (state.lost > 0)
        log_warn("%s: %u open files were not found again: the guest's handles to them fail",
                 v->name, state.lost);
}

static const struct virtio_ops fs_ops = {
    .type = VIRTIO_ID_FS,
    .queue_size = FUSE_SEGMENTS_MAX,
    .config_size = sizeof(struct virtio_fs_config),
    .read_config = fs_read_config,
    .kick = fs_kick,
    .stop = fs_stop,
    .pause = fs_pause,
    .destroy = fs_destroy,
};

int virtio_fs_create(struct virtio_device **ret, const char *name, const char *tag,
                     struct share *share, const struct guest_memory *mem, struct loop *loop)
{
    struct virtio_fs *fs = calloc(1, sizeof(*fs));
    struct fuse *fuse = fs ? fuse_create(share) : NULL;
    int error = fuse ? loop_allow_blocking(loop, fs_taken_over, fs) : -ENOMEM;

    if (!error)
        error = virtio_init(&fs->virtio, &fs_ops, fs_state, QUEUES, name, mem, loop);
    if (error) {
        fuse_destroy(fuse);
        free(fs);
        return error;
    }
    clock_cond_init(&fs->done);
    fs->share = share;
    fs->fuse = fuse;
    memcpy(fs->config.tag, tag, strnlen(tag, sizeof(fs->config.tag)));
    fs->config.num_request_queues = htole32(1);
    *ret = &fs->virtio;
    return 0;
}
