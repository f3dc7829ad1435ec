/* SPDX-License-Identifier: MIT */
#include "devices/virtio/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/core/base.h"

#define MEMORY_TABLE_SIZE \
    (sizeof(struct vhost_memory) + GUEST_MEMORY_REGIONS * sizeof(struct vhost_memory_region))

int vhost_ioctl(struct vhost *vhost, unsigned long request, const void *arg)
{
    return ioctl(vhost->fd, request, arg) < 0 ? -errno : 0;
}

int vhost_set_file(struct vhost *vhost, unsigned long request, unsigned queue, int fd)
{
    const struct vhost_vring_file file = { .index = queue, .fd = fd };

    return vhost_ioctl(vhost, request, &file);
}

static int vhost_set_state(struct vhost *vhost, unsigned long request, unsigned queue, unsigned num)
{
    const struct vhost_vring_state state = { .index = queue, .num = num };

    return vhost_ioctl(vhost, request, &state);
}

/* Once: the kernel makes a thread that works in this process's memory. */
static int vhost_own(struct vhost *vhost)
{
    int error = vhost->owned ? 0 : vhost_ioctl(vhost, VHOST_SET_OWNER, NULL);

    if (!error)
        vhost->owned = true;
    return error;
}

static int vhost_set_memory(struct vhost *vhost)
{
    _Alignas(struct vhost_memory) uint8_t room[MEMORY_TABLE_SIZE] = { 0 };
    struct vhost_memory *table = (struct vhost_memory *)room;
    const struct ram_region *ram;

    for (; (ram = guest_memory_region(vhost->mem, table->nregions)); table->nregions++)
        table->regions[table->nregions] =
            (struct vhost_memory_region){ .guest_phys_addr = ram->base,
                                          .memory_size = ram->size,
                                          .userspace_addr = (uintptr_t)ram->host };
    return vhost_ioctl(vhost, VHOST_SET_MEM_TABLE, table);
}

int vhost_set_up(struct vhost *vhost)
{
    uint64_t features = vhost->virtio->features & vhost->features;
    int error = vhost_own(vhost);

    if (!error)
        error = vhost_set_memory(vhost);
    return error ? error : vhost_ioctl(vhost, VHOST_SET_FEATURES, &features);
}

int vhost_give_queue(struct vhost *vhost, unsigned queue)
{
    struct virtio_device *v = vhost->virtio;
    int call = v->transport_ops->get_call_fd(v->transport, queue);
    const struct virtio_queue *q = &v->queues[queue];
    struct virtq_rings rings = virtq_rings(q->virtq);
    unsigned next_avail = virtq_position(q->virtq).next_avail;
    const struct vhost_vring_addr addr = { .index = queue,
                                           .desc_user_addr = (uintptr_t)rings.desc,
                                           .avail_user_addr = (uintptr_t)rings.avail,
                                           .used_user_addr = (uintptr_t)rings.used };
    int error;

    if ((error = vhost_set_state(vhost, VHOST_SET_VRING_NUM, queue, q->layout.size)) ||
        (error = vhost_set_state(vhost, VHOST_SET_VRING_BASE, queue, next_avail)) ||
        (error = vhost_ioctl(vhost, VHOST_SET_VRING_ADDR, &addr)) ||
        (error = vhost_set_file(vhost, VHOST_SET_VRING_KICK, queue, q->kick.fd)) ||
        (error = vhost_set_file(vhost, VHOST_SET_VRING_CALL, queue, call)))
        return error;
    return vhost_set_file(vhost, VHOST_SET_VRING_ERR, queue, vhost->faults[queue].watch.fd);
}

/* False if vhost has not stumbled since it was last asked. */
static bool vhost_take_fault(struct vhost_fault *fault)
{
    uint64_t count;

    return read(fault->watch.fd, &count, sizeof(count)) == sizeof(count);
}

/* vhost cannot follow what the guest wrote there, and would stumble again at each doorbell. */
static void vhost_hear_fault(struct vhost_fault *fault)
{
    struct vhost *vhost = fault->vhost;
    unsigned queue = (unsigned)(fault - vhost->faults);

    if (!vhost_take_fault(fault))
        return;
    vhost->detach(vhost, queue);
    virtq_break(virtio_virtq(vhost->virtio, queue), "vhost cannot make sense of it");
}

static void vhost_fault_ready(struct watch *watch, short revents)
{
    vhost_hear_fault(container_of(watch, struct vhost_fault, watch));
}

int vhost_take_queue(struct vhost *vhost, unsigned queue)
{
    struct virtio_device *v = vhost->virtio;
    struct vhost_vring_state base = { .index = queue };
    int error = 0;

    vhost_hear_fault(&vhost->faults[queue]);
    v->transport_ops->put_call_fd(v->transport, queue);
    if (virtq_started(virtio_virtq(v, queue))) {
        error = vhost_ioctl(vhost, VHOST_GET_VRING_BASE, &base);
        virtq_adopt(virtio_virtq(v, queue), (uint16_t)base.num);
    }
    return error;
}

void vhost_watch(struct vhost *vhost)
{
    for (unsigned i = 0; i < vhost->queue_count; i++)
        loop_add(vhost->virtio->loop, &vhost->faults[i].watch);
}

void vhost_unwatch(struct vhost *vhost)
{
    for (unsigned i = 0; i < vhost->queue_count; i++) {
        loop_remove(vhost->virtio->loop, &vhost->faults[i].watch);
        vhost_take_fault(&vhost->faults[i]);
    }
}

int vhost_open(struct vhost *vhost, const char *path)
{
    uint64_t features = 0;

    for (unsigned i = 0; i < vhost->queue_count; i++)
        vhost->faults[i] = (struct vhost_fault){
            .vhost = vhost, .watch = { .fd = -1, .events = POLLIN, .ready = vhost_fault_ready }
        };
    vhost->fd = open(path, O_RDWR | O_CLOEXEC);
    if (vhost->fd < 0 || ioctl(vhost->fd, VHOST_GET_FEATURES, &features) < 0)
        return -errno;
    if (vhost->features & ~features)
        return -EOPNOTSUPP;
    for (unsigned i = 0; i < vhost->queue_count; i++) {
        vhost->faults[i].watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (vhost->faults[i].watch.fd < 0)
            return -errno;
    }
    return 0;
}

void vhost_close(struct vhost *vhost)
{
    for (unsigned i = 0; i < vhost->queue_count; i++)
        if (vhost->faults[i].watch.fd >= 0)
            close(vhost->faults[i].watch.fd);
    if (vhost->fd >= 0)
        close(vhost->fd);
}
