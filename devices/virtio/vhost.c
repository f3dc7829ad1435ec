/* SPDX-License-Identifier: MIT */
#include "devices/virtio/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/core/base.h"

#define VHOST_MEMORY_SIZE \
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

/* Once per descriptor: the kernel creates a worker thread that shares this process's memory. */
static int vhost_set_owner(struct vhost *vhost)
{
    int error = vhost->owned ? 0 : vhost_ioctl(vhost, VHOST_SET_OWNER, NULL);

    if (!error)
        vhost->owned = true;
    return error;
}

static int vhost_set_memory(struct vhost *vhost)
{
    _Alignas(struct vhost_memory) uint8_t room[VHOST_MEMORY_SIZE] = { 0 };
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
    int error = vhost_set_owner(vhost);

    if (!error)
        error = vhost_set_memory(vhost);
    return error ? error : vhost_ioctl(vhost, VHOST_SET_FEATURES, &features);
}

int vhost_start_queue(struct vhost *vhost, unsigned queue)
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
    return vhost_set_file(vhost, VHOST_SET_VRING_ERR, queue, vhost->error_fds[queue].watch.fd);
}

/* Consumes a pending error; false if there is none. */
static bool vhost_take_error(struct vhost_error_fd *error_fd)
{
    uint64_t count;

    return read(error_fd->watch.fd, &count, sizeof(count)) == sizeof(count);
}

/* Detaches a queue with a malformed ring: vhost would report it again at each notification. */
static void vhost_handle_error(struct vhost_error_fd *error_fd)
{
    struct vhost *vhost = error_fd->vhost;
    unsigned queue = (unsigned)(error_fd - vhost->error_fds);

    if (!vhost_take_error(error_fd))
        return;
    vhost->detach(vhost, queue);
    virtq_break(virtio_virtq(vhost->virtio, queue), "vhost reported an error in it");
}

static void vhost_error_ready(struct watch *watch, short revents)
{
    vhost_handle_error(container_of(watch, struct vhost_error_fd, watch));
}

int vhost_stop_queue(struct vhost *vhost, unsigned queue)
{
    struct virtio_device *v = vhost->virtio;
    struct vhost_vring_state base = { .index = queue };
    int error = 0;

    vhost_handle_error(&vhost->error_fds[queue]);
    v->transport_ops->put_call_fd(v->transport, queue);
    if (virtq_started(virtio_virtq(v, queue))) {
        error = vhost_ioctl(vhost, VHOST_GET_VRING_BASE, &base);
        virtq_adopt(virtio_virtq(v, queue), (uint16_t)base.num);
    }
    return error;
}

void vhost_watch_errors(struct vhost *vhost)
{
    for (unsigned i = 0; i < vhost->queue_count; i++)
        loop_add(vhost->virtio->loop, &vhost->error_fds[i].watch);
}

void vhost_unwatch_errors(struct vhost *vhost)
{
    for (unsigned i = 0; i < vhost->queue_count; i++) {
        loop_remove(vhost->virtio->loop, &vhost->error_fds[i].watch);
        vhost_take_error(&vhost->error_fds[i]);
    }
}

int vhost_open(struct vhost *vhost, const char *path)
{
    uint64_t features = 0;

    for (unsigned i = 0; i < vhost->queue_count; i++)
        vhost->error_fds[i] = (struct vhost_error_fd){
            .vhost = vhost, .watch = { .fd = -1, .events = POLLIN, .ready = vhost_error_ready }
        };
    vhost->fd = open(path, O_RDWR | O_CLOEXEC);
    if (vhost->fd < 0 || ioctl(vhost->fd, VHOST_GET_FEATURES, &features) < 0)
        return -errno;
    if (vhost->features & ~features)
        return -EOPNOTSUPP;
    for (unsigned i = 0; i < vhost->queue_count; i++) {
        vhost->error_fds[i].watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (vhost->error_fds[i].watch.fd < 0)
            return -errno;
    }
    return 0;
}

void vhost_close(struct vhost *vhost)
{
    for (unsigned i = 0; i < vhost->queue_count; i++)
        if (vhost->error_fds[i].watch.fd >= 0)
            close(vhost->error_fds[i].watch.fd);
    if (vhost->fd >= 0)
        close(vhost->fd);
}
