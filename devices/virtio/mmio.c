/* SPDX-License-Identifier: MIT */
#include "devices/virtio/mmio.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"
#include "vmm/base.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"

#define MAGIC     0x74726976u /* "virt" */
#define VERSION   2u
#define VENDOR_ID 0x4d4d564du /* "MVMM" */

struct virtio_mmio {
    struct device device;
    struct io_region region;
    struct virtio_device *virtio;
    struct wiring wiring;
    uint32_t gsi;
    int interrupt; /* an eventfd: each signal is an edge */
    bool wired;    /* under the lock */

    unsigned status;     /* atomic: InterruptStatus */
    unsigned generation; /* atomic: ConfigGeneration */

    pthread_mutex_t lock; /* the registers below, and one driver's command at a time */
    uint32_t features_select, driver_features_select, queue_select;
    uint64_t driver_features;
};

static void virtio_mmio_raise(struct virtio_mmio *mmio, unsigned bit)
{
    uint64_t one = 1;

    __atomic_fetch_or(&mmio->status, bit, __ATOMIC_SEQ_CST);
    if (write(mmio->interrupt, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

static void virtio_mmio_interrupt(void *transport, unsigned queue)
{
    virtio_mmio_raise(transport, VIRTIO_MMIO_INT_VRING);
}

static void virtio_mmio_config_changed(void *transport)
{
    struct virtio_mmio *mmio = transport;

    __atomic_fetch_add(&mmio->generation, 1, __ATOMIC_SEQ_CST);
    virtio_mmio_raise(mmio, VIRTIO_MMIO_INT_CONFIG);
}

static const struct virtio_transport_ops virtio_mmio_transport = {
    .interrupt = virtio_mmio_interrupt,
    .config_changed = virtio_mmio_config_changed,
};

/* Asks KVM to turn doorbells and interrupts into eventfds: once, when a driver first shows up. */
static void virtio_mmio_wire(struct virtio_mmio *mmio)
{
    struct virtio_device *v = mmio->virtio;
    int error;

    if (mmio->wired)
        return;
    mmio->wired = true;

    error = mmio->wiring.interrupt(mmio->wiring.vm, mmio->gsi, mmio->interrupt);
    if (error)
        log_error(-error, "%s: connect interrupt %u", v->name, mmio->gsi);
    for (unsigned i = 0; i < v->ops->queues; i++) {
        error = mmio->wiring.doorbell(mmio->wiring.vm, mmio->region.base + VIRTIO_MMIO_QUEUE_NOTIFY,
                                      i, v->queues[i].kick.fd);
        if (error) /* doorbells then come by exit: slower, not wrong */
            log_warn("%s: connect doorbell %u: %s", v->name, i, strerror(-error));
    }
}

static void virtio_mmio_reset(struct virtio_mmio *mmio)
{
    virtio_reset(mmio->virtio);
    mmio->features_select = mmio->driver_features_select = mmio->queue_select = 0;
    mmio->driver_features = 0;
    __atomic_store_n(&mmio->status, 0, __ATOMIC_SEQ_CST);
}

/* The machine's reset, not the driver's: KVM's virtual machine, and with it the wiring, is new. */
static void virtio_mmio_power_on(struct device *dev)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);

    mmio->wired = false;
    virtio_mmio_reset(mmio);
}

static void virtio_mmio_write_status(struct virtio_mmio *mmio, uint32_t status)
{
    if (status == 0) {
        virtio_mmio_reset(mmio);
        return;
    }
    virtio_mmio_wire(mmio);
    virtio_set_status(mmio->virtio, status);
}

static void set_low(gpa_t *addr, uint32_t value)
{
    *addr = (*addr & ~0xffffffffull) | value;
}

static void set_high(gpa_t *addr, uint32_t value)
{
    *addr = (*addr & 0xffffffffull) | (uint64_t)value << 32;
}

static void virtio_mmio_write_queue(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtio_device *v = mmio->virtio;
    struct virtq_layout *layout;

    if (!virtio_queue_open(v, mmio->queue_select))
        return;
    layout = &v->queues[mmio->queue_select].layout;
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        if (value <= v->ops->queue_size)
            layout->size = (uint16_t)value;
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
        set_low(&layout->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_high(&layout->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        set_low(&layout->avail, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        set_high(&layout->avail, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
        set_low(&layout->used, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        set_high(&layout->used, value);
        break;
    case VIRTIO_MMIO_QUEUE_READY:
        virtio_set_queue_ready(v, mmio->queue_select, value & 1);
        break;
    }
}

static void virtio_mmio_write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        mmio->features_select = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        mmio->driver_features_select = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        if (mmio->driver_features_select == 0)
            set_low(&mmio->driver_features, value);
        else if (mmio->driver_features_select == 1)
            set_high(&mmio->driver_features, value);
        virtio_set_features(mmio->virtio, mmio->driver_features);
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        mmio->queue_select = value;
        break;
    case VIRTIO_MMIO_STATUS:
        virtio_mmio_write_status(mmio, value);
        break;
    default:
        virtio_mmio_write_queue(mmio, offset, value);
    }
}

static uint32_t virtio_mmio_read_register(struct virtio_mmio *mmio, uint64_t offset)
{
    struct virtio_device *v = mmio->virtio;

    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
    case VIRTIO_MMIO_VERSION:
        return VERSION;
    case VIRTIO_MMIO_DEVICE_ID:
        return v->ops->type;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR_ID;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        if (mmio->features_select > 1)
            return 0;
        return (uint32_t)(virtio_offered_features(v) >> 32 * mmio->features_select);
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return mmio->queue_select < v->ops->queues ? v->ops->queue_size : 0;
    case VIRTIO_MMIO_QUEUE_READY:
        return mmio->queue_select < v->ops->queues && v->queues[mmio->queue_select].ready;
    case VIRTIO_MMIO_STATUS:
        return virtio_status(v);
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return __atomic_load_n(&mmio->generation, __ATOMIC_SEQ_CST);
    case VIRTIO_MMIO_SHM_LEN_LOW: /* 4.2.2: no shared memory region has length -1 */
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
        return UINT32_MAX;
    default:
        return 0;
    }
}

/* Configuration space takes any width (4.2.2.2); past its end reads are zero, writes vanish. */
static uint64_t virtio_mmio_read_config(struct virtio_mmio *mmio, uint64_t offset, unsigned size)
{
    uint8_t config[VIRTIO_MAX_CONFIG + 8] = { 0 };
    uint64_t value = 0;

    if (offset >= VIRTIO_MAX_CONFIG)
        return 0;
    virtio_read_config(mmio->virtio, config);
    memcpy(&value, config + offset, size);
    return le64toh(value);
}

static void virtio_mmio_write_config(struct virtio_mmio *mmio, uint64_t offset, unsigned size,
                                     uint64_t value)
{
    unsigned config_size = mmio->virtio->ops->config_size;

    if (offset < config_size && size <= config_size - offset)
        virtio_write_config(mmio->virtio, (unsigned)offset, size, value);
}

static uint64_t virtio_mmio_read(void *owner, uint64_t offset, unsigned size)
{
    struct virtio_mmio *mmio = owner;

    if (offset == VIRTIO_MMIO_INTERRUPT_STATUS && size == 4)
        return __atomic_load_n(&mmio->status, __ATOMIC_SEQ_CST);

    LOCK_SCOPE(&mmio->lock);
    if (offset >= VIRTIO_MMIO_CONFIG)
        return virtio_mmio_read_config(mmio, offset - VIRTIO_MMIO_CONFIG, size);
    if (size == 4 && offset % 4 == 0)
        return virtio_mmio_read_register(mmio, offset);
    log_debug("%s: read of %u bytes at %#llx", mmio->virtio->name, size,
              (unsigned long long)offset);
    return 0;
}

static void virtio_mmio_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_mmio *mmio = owner;

    if (size == 4 && offset == VIRTIO_MMIO_INTERRUPT_ACK) {
        __atomic_fetch_and(&mmio->status, ~(unsigned)value, __ATOMIC_SEQ_CST);
        return;
    }
    if (size == 4 && offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
        virtio_kick(mmio->virtio, (unsigned)value);
        return;
    }

    LOCK_SCOPE(&mmio->lock);
    if (offset >= VIRTIO_MMIO_CONFIG)
        virtio_mmio_write_config(mmio, offset - VIRTIO_MMIO_CONFIG, size, value);
    else if (size == 4 && offset % 4 == 0)
        virtio_mmio_write_register(mmio, offset, (uint32_t)value);
    else
        log_debug("%s: write of %u bytes at %#llx", mmio->virtio->name, size,
                  (unsigned long long)offset);
}

static const struct io_ops virtio_mmio_io_ops = {
    .read = virtio_mmio_read,
    .write = virtio_mmio_write,
};

static void virtio_mmio_count(struct device *dev, struct device_stats *ret)
{
    const struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);

    virtio_count(mmio->virtio, ret);
    ret->exits = mmio->region.accesses;
}

static void virtio_mmio_destroy(struct device *dev)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);

    virtio_destroy(mmio->virtio);
    close(mmio->interrupt);
    pthread_mutex_destroy(&mmio->lock);
    free(mmio);
}

static const struct device_ops virtio_mmio_device_ops = {
    .reset = virtio_mmio_power_on,
    .count = virtio_mmio_count,
    .destroy = virtio_mmio_destroy,
};

int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_device *virtio, uint64_t base,
                       uint32_t gsi, const struct wiring *wiring)
{
    struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));

    if (!mmio)
        return log_error(ENOMEM, "%s", virtio->name);
    *mmio = (struct virtio_mmio){
        .device = { .name = virtio->name, .ops = &virtio_mmio_device_ops },
        .region = { .name = virtio->name,
                    .base = base,
                    .size = VIRTIO_MMIO_SIZE,
                    .ops = &virtio_mmio_io_ops,
                    .owner = mmio },
        .virtio = virtio,
        .wiring = *wiring,
        .gsi = gsi,
        .interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    if (mmio->interrupt < 0) {
        int error = log_error(errno, "%s: create an eventfd", virtio->name);

        free(mmio);
        return error;
    }
    pthread_mutex_init(&mmio->lock, NULL);
    virtio->transport_ops = &virtio_mmio_transport;
    virtio->transport = mmio;
    *ret = mmio;
    return 0;
}

struct device *virtio_mmio_device(struct virtio_mmio *mmio)
{
    return &mmio->device;
}

struct io_region *virtio_mmio_region(struct virtio_mmio *mmio)
{
    return &mmio->region;
}
