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
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

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

    uint32_t *shown;           /* what the registers say; little-endian, atomic */
    struct watch acknowledged; /* an eventfd: the driver has seen the used buffers */
    uint64_t looked;           /* how often the loop has read it */
    bool lent;                 /* somebody else signals `interrupt`; atomic */

    pthread_mutex_t lock; /* the registers below, and one driver's command at a time */
    uint32_t features_select, driver_features_select, queue_select;
    uint64_t driver_features;
};

static uint32_t *virtio_mmio_register(struct virtio_mmio *mmio, uint64_t offset)
{
    return &mmio->shown[offset / sizeof(uint32_t)];
}

static uint32_t virtio_mmio_get(struct virtio_mmio *mmio, uint64_t offset)
{
    return le32toh(__atomic_load_n(virtio_mmio_register(mmio, offset), __ATOMIC_SEQ_CST));
}

static void virtio_mmio_set(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    uint32_t *word = virtio_mmio_register(mmio, offset);

    __atomic_store_n(word, htole32(value), __ATOMIC_SEQ_CST);
    mmio->wiring.publish(word);
}

static void virtio_mmio_set_interrupt(struct virtio_mmio *mmio, uint32_t bit)
{
    uint32_t *word = virtio_mmio_register(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);

    __atomic_fetch_or(word, htole32(bit), __ATOMIC_SEQ_CST);
    mmio->wiring.publish(word);
}

/* Who has borrowed the interrupt cannot set a bit here: the one of used buffers stays. */
static void virtio_mmio_clear_interrupt(struct virtio_mmio *mmio, uint32_t bits)
{
    uint32_t *word = virtio_mmio_register(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);

    if (__atomic_load_n(&mmio->lent, __ATOMIC_SEQ_CST))
        bits &= ~(uint32_t)VIRTIO_MMIO_INT_VRING;
    __atomic_fetch_and(word, ~htole32(bits), __ATOMIC_SEQ_CST);
    mmio->wiring.publish(word);
}

/* What the driver selected, and what depends on it. Under the lock. */
static void virtio_mmio_show_selected(struct virtio_mmio *mmio)
{
    struct virtio_device *v = mmio->virtio;
    uint64_t features = virtio_offered_features(v);
    unsigned queue = mmio->queue_select, half = mmio->features_select;
    bool exists = queue < v->ops->queues;

    virtio_mmio_set(mmio, VIRTIO_MMIO_DEVICE_FEATURES,
                    half > 1 ? 0 : (uint32_t)(features >> 32 * half));
    virtio_mmio_set(mmio, VIRTIO_MMIO_QUEUE_NUM_MAX, exists ? v->ops->queue_size : 0);
    virtio_mmio_set(mmio, VIRTIO_MMIO_QUEUE_READY, exists && v->queues[queue].ready);
}

/* The driver and the device both change it: whoever finds that it moved on shows it again. */
static void virtio_mmio_show_status(struct virtio_mmio *mmio)
{
    unsigned status;

    do {
        status = virtio_status(mmio->virtio);
        virtio_mmio_set(mmio, VIRTIO_MMIO_STATUS, status);
    } while (status != virtio_status(mmio->virtio));
}

static void virtio_mmio_next_generation(struct virtio_mmio *mmio)
{
    virtio_mmio_set(mmio, VIRTIO_MMIO_CONFIG_GENERATION,
                    virtio_mmio_get(mmio, VIRTIO_MMIO_CONFIG_GENERATION) + 1);
}

/* A driver that reads one generation before and after has read one version of it (2.5.1). */
static void virtio_mmio_show_config(struct virtio_mmio *mmio)
{
    uint32_t config[VIRTIO_MAX_CONFIG / sizeof(uint32_t)];

    virtio_read_config(mmio->virtio, config);
    if (!memcmp(config, virtio_mmio_register(mmio, VIRTIO_MMIO_CONFIG), sizeof(config)))
        return;
    virtio_mmio_next_generation(mmio);
    for (unsigned i = 0; i < ARRAY_SIZE(config); i++)
        virtio_mmio_set(mmio, VIRTIO_MMIO_CONFIG + i * sizeof(uint32_t), le32toh(config[i]));
    virtio_mmio_next_generation(mmio);
}

static void virtio_mmio_show(void *transport)
{
    virtio_mmio_show_config(transport);
    virtio_mmio_show_status(transport);
}

/* False if the driver has not written InterruptACK since it was last asked. */
static bool virtio_mmio_take_acknowledgement(struct virtio_mmio *mmio)
{
    uint64_t count;

    return read(mmio->acknowledged.fd, &count, sizeof(count)) == sizeof(count);
}

static void virtio_mmio_acknowledged(struct watch *watch, short revents)
{
    struct virtio_mmio *mmio = container_of(watch, struct virtio_mmio, acknowledged);

    mmio->looked++;
    if (virtio_mmio_take_acknowledgement(mmio))
        virtio_mmio_clear_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
}

static void virtio_mmio_raise(struct virtio_mmio *mmio, uint32_t bit)
{
    uint64_t one = 1;

    virtio_mmio_set_interrupt(mmio, bit);
    if (write(mmio->interrupt, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

/*
 * An acknowledgement that waits to be looked at was of interrupts before this one. There may be one
 * though the bit is clear: of a driver that read the bit before the loop cleared it.
 */
static void virtio_mmio_interrupt(void *transport, unsigned queue)
{
    struct virtio_mmio *mmio = transport;

    mmio->looked++;
    virtio_mmio_take_acknowledgement(mmio);
    virtio_mmio_raise(mmio, VIRTIO_MMIO_INT_VRING);
}

static void virtio_mmio_interrupt_config(void *transport)
{
    virtio_mmio_raise(transport, VIRTIO_MMIO_INT_CONFIG);
}

/*
 * The guest finds "used buffers" at every interrupt, true or not: a driver looks into its rings
 * then and may find nothing. Nobody needs to hear its acknowledgements.
 */
static int virtio_mmio_lend_interrupt(void *transport)
{
    struct virtio_mmio *mmio = transport;

    loop_remove(mmio->virtio->loop, &mmio->acknowledged);
    __atomic_store_n(&mmio->lent, true, __ATOMIC_SEQ_CST);
    virtio_mmio_set_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
    return mmio->interrupt;
}

static void virtio_mmio_take_back_interrupt(void *transport)
{
    struct virtio_mmio *mmio = transport;

    if (!__atomic_exchange_n(&mmio->lent, false, __ATOMIC_SEQ_CST))
        return;
    virtio_mmio_take_acknowledgement(mmio);
    virtio_mmio_clear_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
    loop_add(mmio->virtio->loop, &mmio->acknowledged);
}

static const struct virtio_transport_ops virtio_mmio_transport = {
    .interrupt = virtio_mmio_interrupt,
    .show = virtio_mmio_show,
    .interrupt_config = virtio_mmio_interrupt_config,
    .lend_interrupt = virtio_mmio_lend_interrupt,
    .take_back_interrupt = virtio_mmio_take_back_interrupt,
};

/* What cannot be connected comes by exit: slower, not wrong. */
static void virtio_mmio_wire_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value,
                                   int eventfd)
{
    const struct wiring *wiring = &mmio->wiring;
    int error = wiring->doorbell(wiring->vm, mmio->region.base + offset, value, eventfd);

    if (error)
        log_warn("%s: connect register %#llx: %s", mmio->virtio->name, (unsigned long long)offset,
                 strerror(-error));
}

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
    for (unsigned i = 0; i < v->ops->queues; i++)
        virtio_mmio_wire_write(mmio, VIRTIO_MMIO_QUEUE_NOTIFY, i, v->queues[i].kick.fd);
    virtio_mmio_wire_write(mmio, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING,
                           mmio->acknowledged.fd);
    if (mmio->wiring.show(mmio->wiring.vm))
        log_debug("%s: KVM has no read-only memory: reading a register exits", v->name);
}

static void virtio_mmio_reset(struct virtio_mmio *mmio)
{
    virtio_reset(mmio->virtio);
    mmio->features_select = mmio->driver_features_select = mmio->queue_select = 0;
    mmio->driver_features = 0;
    virtio_mmio_take_acknowledgement(mmio);
    virtio_mmio_clear_interrupt(mmio, UINT32_MAX);
}

/* The machine's reset, not the driver's: KVM's virtual machine, and with it the wiring, is new. */
static void virtio_mmio_power_on(struct device *dev)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);

    mmio->wired = false;
    virtio_mmio_reset(mmio);
    virtio_mmio_show_selected(mmio);
    virtio_mmio_show_status(mmio);
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
    virtio_mmio_show_selected(mmio);
    virtio_mmio_show_status(mmio);
}

static void virtio_mmio_write_config(struct virtio_mmio *mmio, uint64_t offset, unsigned size,
                                     uint64_t value)
{
    unsigned config_size = mmio->virtio->ops->config_size;

    if (offset < config_size && size <= config_size - offset)
        virtio_write_config(mmio->virtio, (unsigned)offset, size, value);
}

/* For a KVM without read-only memory. */
static uint64_t virtio_mmio_read(void *owner, uint64_t offset, unsigned size)
{
    struct virtio_mmio *mmio = owner;
    const uint8_t *bytes = (const uint8_t *)mmio->shown + offset;
    uint64_t value = 0;

    if (size == 4 && offset % 4 == 0)
        return virtio_mmio_get(mmio, offset);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)__atomic_load_n(&bytes[i], __ATOMIC_RELAXED) << 8 * i;
    return value;
}

static void virtio_mmio_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_mmio *mmio = owner;

    if (size == 4 && offset == VIRTIO_MMIO_INTERRUPT_ACK) {
        virtio_mmio_clear_interrupt(mmio, (uint32_t)value);
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
    ret->calls += mmio->looked;
    ret->exits = mmio->region.accesses;
}

static void virtio_mmio_destroy(struct device *dev)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);
    struct loop *loop = mmio->virtio->loop;

    virtio_destroy(mmio->virtio);
    loop_remove(loop, &mmio->acknowledged); /* last: what it gives back may put it there again */
    close(mmio->acknowledged.fd);
    close(mmio->interrupt);
    pthread_mutex_destroy(&mmio->lock);
    free(mmio);
}

static const struct device_ops virtio_mmio_device_ops = {
    .reset = virtio_mmio_power_on,
    .count = virtio_mmio_count,
    .destroy = virtio_mmio_destroy,
};

/* What never changes, and all else as it is after a reset. */
static void virtio_mmio_show_first(struct virtio_mmio *mmio)
{
    virtio_mmio_set(mmio, VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
    virtio_mmio_set(mmio, VIRTIO_MMIO_VERSION, VERSION);
    virtio_mmio_set(mmio, VIRTIO_MMIO_DEVICE_ID, mmio->virtio->ops->type);
    virtio_mmio_set(mmio, VIRTIO_MMIO_VENDOR_ID, VENDOR_ID);
    for (uint64_t reg = VIRTIO_MMIO_SHM_LEN_LOW; reg <= VIRTIO_MMIO_SHM_BASE_HIGH; reg += 4)
        virtio_mmio_set(mmio, reg, UINT32_MAX); /* 4.2.2: length -1, no shared memory */
    virtio_mmio_show_selected(mmio);
    virtio_mmio_show(mmio);
}

int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_device *virtio, uint64_t base,
                       uint32_t gsi, const struct wiring *wiring, void *shown)
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
        .shown = shown,
        .acknowledged = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                          .events = POLLIN,
                          .ready = virtio_mmio_acknowledged },
    };
    if (mmio->interrupt < 0 || mmio->acknowledged.fd < 0) {
        int error = log_error(errno, "%s: create an eventfd", virtio->name);

        if (mmio->interrupt >= 0)
            close(mmio->interrupt);
        free(mmio);
        return error;
    }
    pthread_mutex_init(&mmio->lock, NULL);
    virtio->transport_ops = &virtio_mmio_transport;
    virtio->transport = mmio;
    loop_add(virtio->loop, &mmio->acknowledged);
    virtio_mmio_show_first(mmio);
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
