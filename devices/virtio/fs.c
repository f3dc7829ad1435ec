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
#include "vmm/core/endian.h"
#include "vmm/core/log.h"

/* Virtio 1.2, 5.11.2: FORGET goes to the high-priority queue, not behind other requests. */
enum { HIGH_PRIORITY, REQUESTS, QUEUES };

#define BURST 64 /* requests served before the loop polls again */

struct virtio_fs {
    struct virtio_device virtio;
    struct share *share;
    struct fuse *fuse;
    struct virtio_fs_config config;
    struct virtq_chain chain;
};

static struct virtio_fs *fs_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_fs, virtio);
}

static void fs_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_fs *fs = fs_of(v);
    struct virtq *q = virtio_virtq(v, queue);
    struct virtq_chain *chain = &fs->chain;

    for (unsigned served = 0; served < BURST && virtq_pop(q, chain); served++) {
        virtq_push(q, chain, fuse_serve(fs->fuse, &chain->readable, &chain->writable));
        virtq_flush(q); /* after each: the next may block on the disk */
    }
    if (!virtq_enable_notification(q))
        virtio_kick(v, queue); /* continue after the loop's other work */
}

static void fs_read_config(struct virtio_device *v, void *config)
{
    memcpy(config, &fs_of(v)->config, sizeof(struct virtio_fs_config));
}

static void fs_stop(struct virtio_device *v)
{
    fuse_reset(fs_of(v)->fuse);
}

static void fs_destroy(struct virtio_device *v)
{
    struct virtio_fs *fs = fs_of(v);

    fuse_destroy(fs->fuse);
    share_close(fs->share);
    free(fs);
}

static void fs_state(struct virtio_device *v, struct state *s)
{
    unsigned lost = fuse_state(fs_of(v)->fuse, s);

    if (lost > 0)
        log_warn("%s: %u open files were not found again: the guest's handles to them fail",
                 v->name, lost);
}

/* No pause(): it would run on the loop, where a request is always served to its end. */
static const struct virtio_ops fs_ops = {
    .type = VIRTIO_ID_FS,
    .queue_size = FUSE_SEGMENTS_MAX,
    .config_size = sizeof(struct virtio_fs_config),
    .read_config = fs_read_config,
    .kick = fs_kick,
    .stop = fs_stop,
    .destroy = fs_destroy,
};

int virtio_fs_create(struct virtio_device **ret, const char *name, const char *tag,
                     struct share *share, const struct guest_memory *mem, struct loop *loop)
{
    struct virtio_fs *fs = calloc(1, sizeof(*fs));
    struct fuse *fuse = fs ? fuse_create(share) : NULL;
    int error =
        fuse ? virtio_init(&fs->virtio, &fs_ops, fs_state, QUEUES, name, mem, loop) : -ENOMEM;

    if (error) {
        fuse_destroy(fuse);
        free(fs);
        return error;
    }
    fs->share = share;
    fs->fuse = fuse;
    memcpy(fs->config.tag, tag, strnlen(tag, sizeof(fs->config.tag)));
    fs->config.num_request_queues = htole32(1);
    *ret = &fs->virtio;
    return 0;
}
