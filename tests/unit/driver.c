/* SPDX-License-Identifier: MIT */
#include "tests/unit/driver.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/endian.h"

/* From here on each queue has 64 KiB: descriptors, available ring, used ring. */
#define RINGS      0x10000u
#define RING_STEP  0x10000u
#define AVAIL_PART 0x4000u
#define USED_PART  0x8000u

static uint64_t desc_of(unsigned queue)
{
    return RINGS + (uint64_t)queue * RING_STEP;
}

static void driver_interrupt(void *transport, unsigned queue)
{
    struct driver *d = transport;

    d->interrupts++;
}

static void driver_sync(void *transport)
{
}

static void driver_interrupt_config(void *transport)
{
    struct driver *d = transport;

    d->config_changes++;
}

static int driver_get_call_fd(void *transport, unsigned queue)
{
    struct driver *d = transport;

    return d->call_fd[queue] = 4321 + (int)queue; /* not a descriptor: only passed on */
}

static void driver_put_call_fd(void *transport, unsigned queue)
{
    struct driver *d = transport;

    d->call_fd[queue] = 0;
}

static const struct virtio_transport_ops driver_transport = {
    .interrupt = driver_interrupt,
    .sync = driver_sync,
    .interrupt_config = driver_interrupt_config,
    .get_call_fd = driver_get_call_fd,
    .put_call_fd = driver_put_call_fd,
};

void driver_init(struct driver *d)
{
    *d = (struct driver){ .mem = guest_memory_create(), .loop = loop_create() };
    if (!d->mem || !d->loop || guest_memory_add(d->mem, 0, DRIVER_RAM, NULL) < 0)
        abort();
}

void driver_find(struct driver *d, struct virtio_device *device)
{
    d->device = device;
    device->transport_ops = &driver_transport;
    device->transport = d;
}

void driver_set_address(struct virtio_device *device, unsigned queue, enum virtio_ring ring,
                        uint64_t addr)
{
    virtio_set_queue_address(device, queue, ring, false, (uint32_t)addr);
    virtio_set_queue_address(device, queue, ring, true, (uint32_t)(addr >> 32));
}

bool driver_start(struct driver *d, struct virtio_device *device, uint64_t features)
{
    const unsigned steps[] = { VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER };
    unsigned status = 0;

    driver_find(d, device);
    d->queue_size = DRIVER_QUEUE_SIZE;
    if (d->queue_size > device->ops->queue_size)
        d->queue_size = device->ops->queue_size;

    for (unsigned i = 0; i < 2; i++) {
        status |= steps[i];
        virtio_set_status(device, status);
    }
    virtio_set_features(device, features | BIT(VIRTIO_F_VERSION_1));
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    virtio_set_status(device, status);
    if (!(virtio_status(device) & VIRTIO_CONFIG_S_FEATURES_OK))
        return false;

    for (unsigned i = 0; i < device->queue_count; i++) {
        virtio_set_queue_size(device, i, d->queue_size);
        driver_set_address(device, i, VIRTIO_RING_DESC, desc_of(i));
        driver_set_address(device, i, VIRTIO_RING_AVAIL, desc_of(i) + AVAIL_PART);
        driver_set_address(device, i, VIRTIO_RING_USED, desc_of(i) + USED_PART);
        virtio_set_queue_ready(device, i, true);
        d->avail_idx[i] = d->used_seen[i] = d->kicked[i] = 0;
    }
    virtio_set_status(device, status | VIRTIO_CONFIG_S_DRIVER_OK);
    return true;
}

void driver_adopt(struct driver *d, const struct driver *old)
{
    memcpy(driver_ram(d, 0), driver_ram(old, 0), DRIVER_RAM);
    memcpy(d->avail_idx, old->avail_idx, sizeof(d->avail_idx));
    memcpy(d->used_seen, old->used_seen, sizeof(d->used_seen));
    memcpy(d->kicked, old->kicked, sizeof(d->kicked));
    d->queue_size = old->queue_size;
}

void driver_finish(struct driver *d)
{
    virtio_destroy(d->device);
    loop_destroy(d->loop);
    guest_memory_destroy(d->mem);
}

void *driver_ram(const struct driver *d, uint64_t addr)
{
    void *host = guest_ptr(d->mem, addr, 1);

    assert(host);
    return host;
}

void driver_describe_at(struct driver *d, uint64_t table, unsigned index, uint64_t addr,
                        uint32_t len, uint16_t flags, uint16_t next)
{
    uint64_t at = table + 16ull * index;

    le64_store(driver_ram(d, at), addr);
    le32_store(driver_ram(d, at + 8), len);
    le16_store(driver_ram(d, at + 12), flags);
    le16_store(driver_ram(d, at + 14), next);
}

void driver_describe(struct driver *d, unsigned queue, unsigned index, uint64_t addr, uint32_t len,
                     uint16_t flags, uint16_t next)
{
    driver_describe_at(d, desc_of(queue), index, addr, len, flags, next);
}

void driver_publish(struct driver *d, unsigned queue, uint16_t head)
{
    uint64_t avail = desc_of(queue) + AVAIL_PART;
    uint16_t slot = d->avail_idx[queue]++ & (d->queue_size - 1);

    le16_store(driver_ram(d, avail + 4 + 2ull * slot), head);
    le16_store_release(driver_ram(d, avail + 2), d->avail_idx[queue]);
}

void driver_set_avail_idx(struct driver *d, unsigned queue, uint16_t idx)
{
    le16_store_release(driver_ram(d, desc_of(queue) + AVAIL_PART + 2), idx);
}

void driver_kick(struct driver *d, unsigned queue)
{
    virtio_kick(d->device, queue);
    d->kicked[queue] = d->avail_idx[queue];
    loop_turn(d->loop, 0);
}

void driver_kick_if_asked(struct driver *d, unsigned queue)
{
    uint16_t wish = le16_load(driver_ram(d, desc_of(queue) + USED_PART + 4 + 8ull * d->queue_size));
    uint16_t published = d->avail_idx[queue] - d->kicked[queue];

    if (!virtio_has_feature(d->device, VIRTIO_RING_F_EVENT_IDX) ||
        (uint16_t)(d->avail_idx[queue] - wish - 1) < published)
        driver_kick(d, queue);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool driver_wait_ms(struct driver *d, unsigned queue, unsigned ms, uint32_t *ret_head,
                    uint32_t *ret_written)
{
    uint64_t used = desc_of(queue) + USED_PART;
    double deadline = now() + ms / 1000.0;
    bool late = false;
    uint64_t elem;

    while (le16_load_acquire(driver_ram(d, used + 2)) == d->used_seen[queue]) {
        if (late)
            return false;
        late = now() > deadline; /* one more turn: the test may have been preempted */
        if (loop_is_current(d->loop))
            loop_turn(d->loop, 10);
        else
            usleep(1000); /* it has a thread of its own */
    }
    elem = used + 4 + 8ull * (d->used_seen[queue]++ & (d->queue_size - 1));
    if (ret_head)
        *ret_head = le32_load(driver_ram(d, elem));
    if (ret_written)
        *ret_written = le32_load(driver_ram(d, elem + 4));
    return true;
}

bool driver_wait(struct driver *d, unsigned queue, uint32_t *ret_head, uint32_t *ret_written)
{
    return driver_wait_ms(d, queue, 30000, ret_head, ret_written);
}

bool driver_broken(const struct driver *d)
{
    return virtio_status(d->device) & VIRTIO_CONFIG_S_NEEDS_RESET;
}
