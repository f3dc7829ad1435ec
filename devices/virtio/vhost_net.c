/* SPDX-License-Identifier: MIT */
#include "devices/virtio/vhost_net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "devices/virtio/net.h"
#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

#define QUEUES 2
#define MEMORY_TABLE_SIZE \
    (sizeof(struct vhost_memory) + GUEST_MEMORY_REGIONS * sizeof(struct vhost_memory_region))

/* What we offer and vhost must know of: it reads the rings. Offloads are the tap's. */
#define RING_FEATURES                                                                            \
    (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
     BIT(VIRTIO_NET_F_MRG_RXBUF))

/* What goes wrong in a queue while vhost has it. */
struct vhost_fault {
    struct vhost_net *card;
    struct watch watch; /* an eventfd that vhost signals */
};

struct vhost_net {
    struct virtio_device virtio;
    struct net *net;
    int tap; /* its descriptor */
    struct virtio_net_registers registers;
    const struct guest_memory *mem;
    int fd;     /* /dev/vhost-net */
    bool owned; /* its thread exists: from the first driver on */
    struct vhost_fault faults[QUEUES];
};

static struct vhost_net *vhost_of(struct virtio_device *v)
{
    return container_of(v, struct vhost_net, virtio);
}

/* 0 or -errno. */
static int vhost_ioctl(struct vhost_net *n, unsigned long request, const void *arg)
{
    return ioctl(n->fd, request, arg) < 0 ? -errno : 0;
}

static int vhost_set_file(struct vhost_net *n, unsigned long request, unsigned queue, int fd)
{
    const struct vhost_vring_file file = { .index = queue, .fd = fd };

    return vhost_ioctl(n, request, &file);
}

static int vhost_set_state(struct vhost_net *n, unsigned long request, unsigned queue, unsigned num)
{
    const struct vhost_vring_state state = { .index = queue, .num = num };

    return vhost_ioctl(n, request, &state);
}

/* Once: the kernel makes a thread that works in this process's memory. */
static int vhost_own(struct vhost_net *n)
{
    int error = n->owned ? 0 : vhost_ioctl(n, VHOST_SET_OWNER, NULL);

    if (!error)
        n->owned = true;
    return error;
}

static int vhost_set_memory(struct vhost_net *n)
{
    _Alignas(struct vhost_memory) uint8_t room[MEMORY_TABLE_SIZE] = { 0 };
    struct vhost_memory *table = (struct vhost_memory *)room;
    const struct ram_region *ram;

    for (; (ram = guest_memory_region(n->mem, table->nregions)); table->nregions++)
        table->regions[table->nregions] =
            (struct vhost_memory_region){ .guest_phys_addr = ram->base,
                                          .memory_size = ram->size,
                                          .userspace_addr = (uintptr_t)ram->host };
    return vhost_ioctl(n, VHOST_SET_MEM_TABLE, table);
}

/* Hands a started queue over, from its beginning. */
static int vhost_attach(struct vhost_net *n, unsigned queue)
{
    int call = n->virtio.transport_ops->get_call_fd(n->virtio.transport, queue);
    const struct virtio_queue *q = &n->virtio.queues[queue];
    struct virtq_rings rings = virtq_rings(q->virtq);
    const struct vhost_vring_addr addr = { .index = queue,
                                           .desc_user_addr = (uintptr_t)rings.desc,
                                           .avail_user_addr = (uintptr_t)rings.avail,
                                           .used_user_addr = (uintptr_t)rings.used };
    int error;

    if ((error = vhost_set_state(n, VHOST_SET_VRING_NUM, queue, q->layout.size)) ||
        (error = vhost_set_state(n, VHOST_SET_VRING_BASE, queue, 0)) ||
        (error = vhost_ioctl(n, VHOST_SET_VRING_ADDR, &addr)) ||
        (error = vhost_set_file(n, VHOST_SET_VRING_KICK, queue, q->kick.fd)) ||
        (error = vhost_set_file(n, VHOST_SET_VRING_CALL, queue, call)) ||
        (error = vhost_set_file(n, VHOST_SET_VRING_ERR, queue, n->faults[queue].watch.fd)))
        return error;
    return vhost_set_file(n, VHOST_NET_SET_BACKEND, queue, n->tap);
}

/* When this returns vhost has let go of the queue; so it has of one it never had. */
static void vhost_detach(struct vhost_net *n, unsigned queue)
{
    if (n->owned)
        vhost_set_file(n, VHOST_NET_SET_BACKEND, queue, VHOST_FILE_UNBIND);
}

static int vhost_start(struct vhost_net *n)
{
    uint64_t features = n->virtio.features & RING_FEATURES;
    int error = vhost_own(n);

    if (!error)
        error = vhost_set_memory(n);
    if (!error)
        error = vhost_ioctl(n, VHOST_SET_FEATURES, &features);
    for (unsigned i = 0; !error && i < QUEUES; i++)
        if (virtq_started(virtio_virtq(&n->virtio, i)))
            error = vhost_attach(n, i);
    return error;
}

static void vhost_net_start(struct virtio_device *v)
{
    struct vhost_net *n = vhost_of(v);
    int error = vhost_start(n);

    net_set_offloads(n->net, v->features);
    for (unsigned i = 0; i < QUEUES; i++)
        loop_add(v->loop, &n->faults[i].watch);
    if (!error)
        return;
    log_guest(&v->told, "%s: hand its queues to vhost-net: %s (vhost=off does without)", v->name,
              strerror(-error)); /* once for each driver: as often as the guest likes */
    for (unsigned i = 0; i < QUEUES; i++) {
        vhost_detach(n, i);
        virtq_break(virtio_virtq(v, i), "vhost-net did not take it");
    }
}

/* False if vhost has not stumbled since it was last asked. */
static bool vhost_take_fault(struct vhost_fault *fault)
{
    uint64_t count;

    return read(fault->watch.fd, &count, sizeof(count)) == sizeof(count);
}

static void vhost_net_stop(struct virtio_device *v)
{
    struct vhost_net *n = vhost_of(v);

    for (unsigned i = 0; i < QUEUES; i++) {
        vhost_detach(n, i);
        vhost_take_fault(&n->faults[i]); /* it was this driver's, not the next one's */
        loop_remove(v->loop, &n->faults[i].watch);
        v->transport_ops->put_call_fd(v->transport, i);
    }
    net_set_offloads(n->net, 0);
}

/* vhost cannot follow what the guest wrote there, and would stumble again at each doorbell. */
static void vhost_net_fault(struct watch *watch, short revents)
{
    struct vhost_fault *fault = container_of(watch, struct vhost_fault, watch);
    struct vhost_net *n = fault->card;
    unsigned queue = (unsigned)(fault - n->faults);

    if (!vhost_take_fault(fault))
        return;
    vhost_detach(n, queue);
    virtq_break(virtio_virtq(&n->virtio, queue), "vhost-net cannot make sense of it");
}

static uint64_t vhost_net_features(const struct virtio_device *v)
{
    return virtio_net_features(container_of(v, const struct vhost_net, virtio)->net);
}

static void vhost_net_read_config(struct virtio_device *v, void *config)
{
    memcpy(config, &vhost_of(v)->registers, sizeof(struct virtio_net_registers));
}

static void vhost_free(struct vhost_net *n)
{
    for (unsigned i = 0; i < QUEUES; i++)
        if (n->faults[i].watch.fd >= 0)
            close(n->faults[i].watch.fd);
    if (n->fd >= 0)
        close(n->fd);
    free(n);
}

static void vhost_net_destroy(struct virtio_device *v)
{
    net_close(vhost_of(v)->net);
    vhost_free(vhost_of(v));
}

static const struct virtio_ops vhost_net_ops = {
    .type = VIRTIO_ID_NET,
    .queue_size = VIRTQ_MAX_SIZE,
    .config_size = sizeof(struct virtio_net_registers),
    .features = vhost_net_features,
    .read_config = vhost_net_read_config,
    .start = vhost_net_start,
    .stop = vhost_net_stop,
    .destroy = vhost_net_destroy,
};

/* Opens what the card needs of the host. */
static int vhost_open(struct vhost_net *n)
{
    uint64_t features = 0;

    n->fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    if (n->fd < 0 || ioctl(n->fd, VHOST_GET_FEATURES, &features) < 0)
        return -errno;
    if (RING_FEATURES & ~features)
        return -EOPNOTSUPP;
    for (unsigned i = 0; i < QUEUES; i++) {
        n->faults[i].watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (n->faults[i].watch.fd < 0)
            return -errno;
    }
    return 0;
}

int vhost_net_create(struct virtio_device **ret, const char *name, struct net *net, int tap,
                     const uint8_t mac[6], const struct guest_memory *mem, struct loop *loop)
{
    struct vhost_net *n = calloc(1, sizeof(*n));
    int error;

    if (!n)
        return -ENOMEM;
    n->fd = -1;
    for (unsigned i = 0; i < QUEUES; i++)
        n->faults[i] = (struct vhost_fault){
            .card = n, .watch = { .fd = -1, .events = POLLIN, .ready = vhost_net_fault }
        };
    error = vhost_open(n);
    if (!error)
        error = virtio_init(&n->virtio, &vhost_net_ops, virtio_no_state, QUEUES, name, mem, loop);
    if (error) {
        vhost_free(n);
        return error;
    }
    virtio_net_describe(&n->registers, net, mac);
    n->net = net;
    n->tap = tap;
    n->mem = mem;
    *ret = &n->virtio;
    return 0;
}
