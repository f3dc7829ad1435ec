/* SPDX-License-Identifier: MIT */
#include "devices/virtio/virtio.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

/* The status bits a driver may set. Until a reset it can only add bits. */
#define DRIVER_STATUS                                                                     \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
     VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

static void virtio_queue_kicked(struct watch *watch, short revents)
{
    struct virtio_queue *queue = container_of(watch, struct virtio_queue, kick);
    struct virtio_device *v = queue->device;
    uint64_t count;

    if (read(watch->fd, &count, sizeof(count)) != sizeof(count))
        return; /* spurious: the eventfd has been read already */
    queue->kicks++;
    if (virtq_started(queue->virtq))
        v->ops->kick(v, (unsigned)(queue - v->queues));
}

static void virtio_interrupt(void *owner, struct virtq *virtq)
{
    struct virtio_queue *queue = owner;
    struct virtio_device *v = queue->device;

    queue->interrupts++;
    v->transport_ops->interrupt(v->transport, (unsigned)(queue - v->queues));
}

static unsigned virtio_set_needs_reset(struct virtio_device *v)
{
    return __atomic_fetch_or(&v->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_SEQ_CST);
}

/* Virtio 1.2, 2.1.2: DEVICE_NEEDS_RESET, with a configuration change interrupt. */
static void virtio_broken(void *owner, struct virtq *virtq, const char *why)
{
    struct virtio_queue *queue = owner;
    struct virtio_device *v = queue->device;
    unsigned before = virtio_set_needs_reset(v);

    if (!(before & VIRTIO_CONFIG_S_NEEDS_RESET))
        log_guest(&v->warnings, "%s: queue %u broken by the guest: %s", v->name,
                  (unsigned)(queue - v->queues), why);
    v->transport_ops->sync(v->transport);
    v->transport_ops->interrupt_config(v->transport);
}

static const struct virtq_owner_ops virtio_virtq_ops = {
    .interrupt = virtio_interrupt,
    .broken = virtio_broken,
};

static void virtio_free_queues(struct virtio_device *v)
{
    for (unsigned i = 0; i < v->queue_count; i++) {
        virtq_destroy(v->queues[i].virtq);
        if (v->queues[i].kick.fd >= 0)
            close(v->queues[i].kick.fd);
    }
}

int virtio_init(struct virtio_device *v, const struct virtio_ops *ops, virtio_state_fn *state,
                unsigned queue_count, const char *name, const struct guest_memory *mem,
                struct loop *loop)
{
    assert(state && queue_count <= VIRTIO_MAX_QUEUES && ops->queue_size <= VIRTQ_MAX_SIZE);
    assert(ops->config_size <= VIRTIO_MAX_CONFIG);

    *v = (struct virtio_device){
        .name = name, .ops = ops, .state = state, .loop = loop, .queue_count = queue_count
    };
    for (unsigned i = 0; i < queue_count; i++) {
        struct virtio_queue *queue = &v->queues[i];

        queue->device = v;
        queue->layout.size = ops->queue_size;
        queue->virtq = virtq_create(mem, &virtio_virtq_ops, queue);
        queue->kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        queue->kick.events = POLLIN;
        queue->kick.ready = virtio_queue_kicked;
        if (!queue->virtq || queue->kick.fd < 0) {
            int error = queue->virtq ? errno : ENOMEM;

            for (unsigned j = i + 1; j < queue_count; j++)
                v->queues[j].kick.fd = -1;
            virtio_free_queues(v);
            return -error;
        }
    }
    return 0;
}

uint64_t virtio_offered_features(struct virtio_device *v)
{
    return BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX) |
           BIT(VIRTIO_RING_F_INDIRECT_DESC) | (v->ops->features ? v->ops->features(v) : 0);
}

void virtio_set_features(struct virtio_device *v, uint64_t features)
{
    if (!(virtio_status(v) & VIRTIO_CONFIG_S_FEATURES_OK))
        v->features = features;
}

unsigned virtio_status(const struct virtio_device *v)
{
    return __atomic_load_n(&v->status, __ATOMIC_SEQ_CST);
}

unsigned virtio_queue_max(const struct virtio_device *v, unsigned index)
{
    return index < v->queue_count ? v->ops->queue_size : 0;
}

/* May the driver still set this queue up? */
static bool virtio_queue_writable(const struct virtio_device *v, unsigned index)
{
    unsigned status = virtio_status(v);

    return index < v->queue_count && status & VIRTIO_CONFIG_S_FEATURES_OK &&
           !(status & VIRTIO_CONFIG_S_DRIVER_OK) && !v->queues[index].ready;
}

void virtio_set_queue_size(struct virtio_device *v, unsigned index, uint32_t size)
{
    if (virtio_queue_writable(v, index) && size <= v->ops->queue_size)
        v->queues[index].layout.size = (uint16_t)size;
}

void virtio_set_queue_address(struct virtio_device *v, unsigned index, enum virtio_ring ring,
                              bool high, uint32_t half)
{
    gpa_t *addr;

    if (!virtio_queue_writable(v, index))
        return;
    addr = ring == VIRTIO_RING_DESC    ? &v->queues[index].layout.desc
           : ring == VIRTIO_RING_AVAIL ? &v->queues[index].layout.avail
                                       : &v->queues[index].layout.used;
    *addr = high ? (*addr & UINT32_MAX) | (gpa_t)half << 32 : (*addr & ~(gpa_t)UINT32_MAX) | half;
}

bool virtio_queue_ready(const struct virtio_device *v, unsigned index)
{
    return index < v->queue_count && v->queues[index].ready;
}

void virtio_set_queue_ready(struct virtio_device *v, unsigned index, bool ready)
{
    if (ready && virtio_queue_writable(v, index))
        v->queues[index].ready = true;
    /* Disabling a live queue needs RING_RESET, which is not offered, or a reset of the device. */
    if (!ready && index < v->queue_count && !(virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK))
        v->queues[index].ready = false;
}

static int virtio_start_queue(struct virtio_queue *queue)
{
    queue->layout.event_idx = virtio_has_feature(queue->device, VIRTIO_RING_F_EVENT_IDX);
    queue->layout.indirect = virtio_has_feature(queue->device, VIRTIO_RING_F_INDIRECT_DESC);
    return virtq_start(queue->virtq, &queue->layout);
}

/* Watches the kick fds, unless vhost has them. */
static void virtio_watch_queues(struct virtio_device *v)
{
    for (unsigned i = 0; v->ops->kick && i < v->queue_count; i++)
        if (virtq_started(v->queues[i].virtq))
            loop_add(v->loop, &v->queues[i].kick);
}

static void virtio_unwatch_queues(struct virtio_device *v)
{
    for (unsigned i = 0; i < v->queue_count; i++)
        loop_remove(v->loop, &v->queues[i].kick);
}

/* Calls kick() for every started queue now, for requests published without a notification. */
static void virtio_serve_queues(struct virtio_device *v)
{
    for (unsigned i = 0; v->ops->kick && i < v->queue_count; i++)
        if (virtq_started(v->queues[i].virtq))
            v->ops->kick(v, i);
}

/* On the loop: starts every queue the driver made ready. */
static void virtio_start(void *arg)
{
    struct virtio_device *v = arg;

    for (unsigned i = 0; i < v->queue_count; i++) {
        struct virtio_queue *queue = &v->queues[i];

        if (queue->ready && virtio_start_queue(queue) < 0)
            virtio_broken(queue, queue->virtq, "rings outside RAM, unaligned or of a wrong size");
    }
    virtio_watch_queues(v);

    if (v->ops->start)
        v->ops->start(v);
    virtio_serve_queues(v);
}

static void virtio_stop(void *arg)
{
    struct virtio_device *v = arg;

    virtio_unwatch_queues(v);
    v->paused = v->config_pending = false;
    if (v->ops->stop)
        v->ops->stop(v);
    for (unsigned i = 0; i < v->queue_count; i++)
        virtq_stop(v->queues[i].virtq);
}

void virtio_reset(struct virtio_device *v)
{
    if (virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK) {
        if (v->ops->drain && !loop_is_current(v->loop))
            v->ops->drain(v);
        loop_call(v->loop, virtio_stop, v);
    }
    __atomic_store_n(&v->status, 0, __ATOMIC_SEQ_CST);
    v->features = 0;
    for (unsigned i = 0; i < v->queue_count; i++) {
        v->queues[i].ready = false;
        v->queues[i].layout = (struct virtq_layout){ .size = v->ops->queue_size };
    }
}

/* Virtio 1.2, 6.2: the driver accepted VERSION_1, and nothing that was not offered. */
static bool virtio_features_ok(struct virtio_device *v)
{
    return !(v->features & ~virtio_offered_features(v)) &&
           virtio_has_feature(v, VIRTIO_F_VERSION_1);
}

void virtio_set_status(struct virtio_device *v, unsigned status)
{
    unsigned old = virtio_status(v);
    unsigned set = status & DRIVER_STATUS & ~old;

    if (status == 0) {
        virtio_reset(v);
        return;
    }

    if (set & VIRTIO_CONFIG_S_FEATURES_OK && !virtio_features_ok(v)) {
        log_debug("%s: features refused: %#llx", v->name, (unsigned long long)v->features);
        set &= ~(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    }
    if (!((old | set) & VIRTIO_CONFIG_S_FEATURES_OK))
        set &= ~VIRTIO_CONFIG_S_DRIVER_OK;
    if ((old | set) & VIRTIO_CONFIG_S_FAILED)
        set &= ~VIRTIO_CONFIG_S_DRIVER_OK;

    __atomic_fetch_or(&v->status, set, __ATOMIC_SEQ_CST);
    if (set & VIRTIO_CONFIG_S_DRIVER_OK)
        loop_call(v->loop, virtio_start, v);
}

void virtio_kick(struct virtio_device *v, unsigned index)
{
    uint64_t one = 1;

    /* EAGAIN: the counter is at its maximum, so a kick is pending already. */
    if (index < v->queue_count && write(v->queues[index].kick.fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

void virtio_read_config(struct virtio_device *v, void *config)
{
    memset(config, 0, VIRTIO_MAX_CONFIG);
    if (v->ops->read_config)
        v->ops->read_config(v, config);
}

struct virtio_config_write {
    struct virtio_device *device;
    unsigned offset, size;
    uint64_t value;
};

static void virtio_do_write_config(void *arg)
{
    struct virtio_config_write *write = arg;
    struct virtio_device *v = write->device;

    v->ops->write_config(v, write->offset, write->size, write->value);
    v->transport_ops->sync(v->transport); /* a write to select changes what is read (input) */
}

void virtio_write_config(struct virtio_device *v, unsigned offset, unsigned size, uint64_t value)
{
    struct virtio_config_write write = {
        .device = v, .offset = offset, .size = size, .value = value
    };

    if (v->ops->write_config)
        loop_call(v->loop, virtio_do_write_config, &write);
}

int virtio_kick_fd(const struct virtio_device *v, unsigned index)
{
    return v->queues[index].kick.fd;
}

void virtio_config_changed(struct virtio_device *v)
{
    if (v->paused) {
        v->config_pending = true;
        return;
    }
    v->transport_ops->sync(v->transport);
    if (virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK)
        v->transport_ops->interrupt_config(v->transport);
}

static bool virtio_driver_ok(const struct virtio_device *v)
{
    return virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK;
}

/*
 * Kicks every queue: the device looks at it in the loop's next round, so that whoever waits for a
 * pause or resume does not wait for the requests, too.
 */
static void virtio_kick_queues(struct virtio_device *v)
{
    for (unsigned i = 0; i < v->queue_count; i++)
        if (virtq_started(v->queues[i].virtq))
            virtio_kick(v, i);
}

struct virtio_pause {
    struct virtio_device *device;
    uint64_t deadline_ns;
    bool succeeded;
};

static void virtio_do_pause(void *arg)
{
    struct virtio_pause *pause = arg;
    struct virtio_device *v = pause->device;

    virtio_unwatch_queues(v);
    pause->succeeded =
        !virtio_driver_ok(v) || !v->ops->pause || v->ops->pause(v, pause->deadline_ns);
    if (!pause->succeeded) {
        virtio_watch_queues(v);
        virtio_kick_queues(v);
        return;
    }
    for (unsigned i = 0; i < v->queue_count; i++)
        virtq_pause(v->queues[i].virtq);
    v->paused = true;
}

int virtio_pause(struct virtio_device *v, uint64_t deadline_ns)
{
    struct virtio_pause pause = { .device = v, .deadline_ns = deadline_ns };

    return loop_call_by(v->loop, virtio_do_pause, &pause, deadline_ns) && pause.succeeded
               ? 0
               : -ETIMEDOUT;
}

static void virtio_do_resume(void *arg)
{
    struct virtio_device *v = arg;
    bool config_pending = v->config_pending;

    if (!v->paused)
        return; /* a reset ended the pause */
    v->paused = v->config_pending = false;
    for (unsigned i = 0; i < v->queue_count; i++)
        virtq_resume(v->queues[i].virtq);
    virtio_watch_queues(v);
    if (v->ops->resume && virtio_driver_ok(v))
        v->ops->resume(v);
    virtio_kick_queues(v); /* kicks were not read while paused, and are not part of the state */
    if (config_pending)
        virtio_config_changed(v);
}

void virtio_resume(struct virtio_device *v)
{
    loop_call(v->loop, virtio_do_resume, v);
}

void virtio_no_state(struct virtio_device *v, struct state *s)
{
}

static void virtio_queue_state(struct virtio_queue *queue, struct state *s)
{
    struct virtq_layout *layout = &queue->layout;
    struct virtq_position position = { 0 };
    bool started = virtq_started(queue->virtq);

    if (started)
        position = virtq_position(queue->virtq);
    state_field(s, queue, ready);
    state_field(s, layout, size);
    if (s->loading && layout->size > queue->device->ops->queue_size)
        state_fail(s, "a queue of %u entries", layout->size);
    state_field(s, layout, desc);
    state_field(s, layout, avail);
    state_field(s, layout, used);
    state_bool(s, "started", &started);
    state_u16(s, "next_avail", &position.next_avail);
    state_u16(s, "next_used", &position.next_used);
    if (!s->loading || s->error || !started)
        return;
    if (!queue->ready || !virtio_driver_ok(queue->device) || virtio_start_queue(queue) < 0)
        state_fail(s, "queue %u cannot be started", (unsigned)(queue - queue->device->queues));
    else if (position.next_avail != position.next_used)
        state_fail(s, "queue %u has requests in flight", (unsigned)(queue - queue->device->queues));
    virtq_set_position(queue->virtq, position);
    virtq_pause(queue->virtq);
}

/* Refuses a status and features that no driver can have negotiated. */
static void virtio_check_state(struct virtio_device *v, uint32_t status, struct state *s)
{
    const unsigned known = DRIVER_STATUS | VIRTIO_CONFIG_S_NEEDS_RESET;

    if (status & ~known)
        state_fail(s, "status %#x has unknown bits", status);
    else if (status & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_FEATURES_OK))
        state_fail(s, "status %#x has DRIVER_OK without FEATURES_OK", status);
    else if (status & VIRTIO_CONFIG_S_FEATURES_OK && !virtio_features_ok(v))
        state_fail(s, "features %#llx were not offered", (unsigned long long)v->features);
}

void virtio_state(struct virtio_device *v, struct state *s)
{
    uint32_t status = virtio_status(v);

    state_same(s, "type", v->ops->type);
    state_same(s, "queues", v->queue_count);
    state_field(s, v, features);
    state_u32(s, "status", &status);
    if (s->loading && !s->error) {
        v->paused = true;
        virtio_check_state(v, status, s);
        if (!s->error)
            __atomic_store_n(&v->status, status, __ATOMIC_SEQ_CST);
    }
    for (unsigned i = 0; i < v->queue_count; i++)
        virtio_queue_state(&v->queues[i], s);
    v->state(v, s);
}

void virtio_count(const struct virtio_device *v, struct device_stats *ret)
{
    ret->loop = v->loop;
    ret->calls = v->ops->calls ? v->ops->calls(v) : 0;
    for (unsigned i = 0; i < v->queue_count; i++) {
        ret->kicks += v->queues[i].kicks;
        ret->interrupts += v->queues[i].interrupts;
        ret->requests += virtq_completed(v->queues[i].virtq);
    }
}

void virtio_destroy(struct virtio_device *v)
{
    if (!v)
        return;
    virtio_reset(v);
    virtio_free_queues(v);
    v->ops->destroy(v);
}
