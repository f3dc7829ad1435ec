/* SPDX-License-Identifier: MIT */
#include "devices/virtio/vhost_net.h"

#include <assert.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "devices/net/net.h"
#include "devices/virtio/net.h"
#include "devices/virtio/vhost.h"
#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define QUEUES 2

static_assert(QUEUES <= VHOST_MAX_QUEUES, "an error fd for each queue");

/* The features offered that vhost must support. Offloads concern the tap only. */
#define RING_FEATURES                                                                            \
    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
     BIT(VIRTIO_NET_F_MRG_RXBUF))

struct vhost_net {
    struct virtio_device virtio;
    struct vhost vhost;
    struct net *net;
    int tap; /* descriptor, owned by `net` */
    struct virtio_net_config_space config;
};

static struct vhost_net *vhost_net_of(struct virtio_device *v)
{
    return container_of(v, struct vhost_net, virtio);
}

/* Afterwards vhost moves frames between the queue and the tap. */
static int vhost_net_attach(struct vhost_net *n, unsigned queue)
{
    int error = vhost_start_queue(&n->vhost, queue);

    return error ? error : vhost_set_file(&n->vhost, VHOST_NET_SET_BACKEND, queue, n->tap);
}

/* Returns once vhost has finished with the queue. No effect on a queue that is not attached. */
static void vhost_net_detach(struct vhost *vhost, unsigned queue)
{
    if (vhost->owned)
        vhost_set_file(vhost, VHOST_NET_SET_BACKEND, queue, VHOST_FILE_UNBIND);
}

static int vhost_net_attach_all(struct vhost_net *n)
{
    int error = vhost_set_up(&n->vhost);

    for (unsigned i = 0; !error && i < QUEUES; i++)
        if (virtq_started(virtio_virtq(&n->virtio, i)))
            error = vhost_net_attach(n, i);
    return error;
}

/* Breaks all queues. A guest can cause this again and again, so the message is rate-limited. */
static void vhost_net_fail(struct vhost_net *n, const char *what, int error)
{
    struct virtio_device *v = &n->virtio;

    log_guest(&v->warnings, "%s: %s: %s; leave out vhost", v->name, what, strerror(-error));
    for (unsigned i = 0; i < QUEUES; i++) {
        vhost_net_detach(&n->vhost, i);
        virtq_break(virtio_virtq(v, i), "vhost-net does not serve it");
    }
}

static void vhost_net_start(struct virtio_device *v)
{
    struct vhost_net *n = vhost_net_of(v);
    int error = vhost_net_attach_all(n);

    net_set_offloads(n->net, v->features);
    vhost_watch_errors(&n->vhost);
    if (error)
        vhost_net_fail(n, "start vhost-net", error);
}

static void vhost_net_stop(struct virtio_device *v)
{
    struct vhost_net *n = vhost_net_of(v);

    for (unsigned i = 0; i < QUEUES; i++) {
        vhost_net_detach(&n->vhost, i);
        v->transport_ops->put_call_fd(v->transport, i);
    }
    vhost_unwatch_errors(&n->vhost); /* pending errors are this driver's, not the next one's */
    net_set_offloads(n->net, 0);
}

static bool vhost_net_pause(struct virtio_device *v, uint64_t deadline_ns)
{
    struct vhost_net *n = vhost_net_of(v);
    int error = 0;

    for (unsigned i = 0; i < QUEUES; i++)
        vhost_net_detach(&n->vhost, i);
    for (unsigned i = 0; i < QUEUES; i++) {
        int failed = vhost_stop_queue(&n->vhost, i);

        error = failed ? failed : error;
    }
    vhost_unwatch_errors(&n->vhost);
    if (error)
        vhost_net_fail(n, "stop vhost-net", error);
    return true;
}

/* Interrupts by vhost may have been lost, so each queue gets one; spurious ones are harmless. */
static void vhost_net_resume(struct virtio_device *v)
{
    vhost_net_start(v);
    for (unsigned i = 0; i < QUEUES; i++) {
        if (!virtq_started(virtio_virtq(v, i)))
            continue;
        virtio_kick(v, i);
        v->transport_ops->interrupt(v->transport, i);
    }
}

static void vhost_net_state(struct virtio_device *v, struct state *s)
{
    virtio_net_config_state(&vhost_net_of(v)->config, s);
}

static uint64_t vhost_net_features(const struct virtio_device *v)
{
    return virtio_net_features(container_of(v, const struct vhost_net, virtio)->net);
}

static void vhost_net_read_config(struct virtio_device *v, void *config)
{
    memcpy(config, &vhost_net_of(v)->config, sizeof(struct virtio_net_config_space));
}

static void vhost_net_free(struct vhost_net *n)
{
    vhost_close(&n->vhost);
    free(n);
}

static void vhost_net_destroy(struct virtio_device *v)
{
    net_close(vhost_net_of(v)->net);
    vhost_net_free(vhost_net_of(v));
}

static const struct virtio_ops vhost_net_ops = {
    .type = VIRTIO_ID_NET,
    .queue_size = VIRTQ_MAX_SIZE,
    .config_size = sizeof(struct virtio_net_config_space),
    .features = vhost_net_features,
    .read_config = vhost_net_read_config,
    .start = vhost_net_start,
    .stop = vhost_net_stop,
    .pause = vhost_net_pause,
    .resume = vhost_net_resume,
    .destroy = vhost_net_destroy,
};

int vhost_net_create(struct virtio_device **ret, const char *name, struct net *net, int tap,
                     const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop)
{
    struct vhost_net *n = calloc(1, sizeof(*n));
    int error;

    if (!n)
        return -ENOMEM;
    n->vhost = (struct vhost){ .virtio = &n->virtio,
                               .mem = mem,
                               .features = RING_FEATURES,
                               .queue_count = QUEUES,
                               .detach = vhost_net_detach };
    error = vhost_open(&n->vhost, "/dev/vhost-net");
    if (!error)
        error = virtio_init(&n->virtio, &vhost_net_ops, vhost_net_state, QUEUES, name, mem, loop);
    if (error) {
        vhost_net_free(n);
        return error;
    }
    virtio_net_fill_config(&n->config, net, mac);
    n->net = net;
    n->tap = tap;
    *ret = &n->virtio;
    return 0;
}
