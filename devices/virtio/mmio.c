/* SPDX-License-Identifier: MIT */
#include "devices/virtio/mmio.h"

#include <assert.h>
#include <endian.h>
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
#include "vmm/core/state.h"

#define MAGIC     0x74726976u /* "virt" */
#define VERSION   2u
#define VENDOR_ID 0x4d4d564du /* "MVMM" */

#define INTERRUPTS (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG) /* bits of InterruptStatus */

struct virtio_mmio {
    struct device device;
    struct io_region region;
    struct virtio_device *virtio;
    struct notifiers notifiers;
    uint32_t gsi;
    int irqfd;        /* the irqfd: each signal is an edge */
    struct watch ack; /* an ioeventfd: InterruptACK of used buffers was written */
    uint64_t ack_reads;
    uint32_t call_fds; /* a bit for each queue whose call fd vhost has; atomic */
    bool connected;    /* irqfd and ioeventfds are assigned; under the lock */
    bool loaded;       /* a state was loaded, and not yet resumed */

    uint32_t *shadow; /* registers as the driver reads them; little-endian, atomic */

    pthread_mutex_t lock; /* for the fields below, and to serialize the driver's commands */
    uint32_t features_select, driver_features_select, queue_select;
    uint64_t driver_features;
};

static uint32_t *virtio_mmio_register(struct virtio_mmio *mmio, uint64_t offset)
{
    return &mmio->shadow[offset / sizeof(uint32_t)];
}

static uint32_t virtio_mmio_get(struct virtio_mmio *mmio, uint64_t offset)
{
    return le32toh(__atomic_load_n(virtio_mmio_register(mmio, offset), __ATOMIC_SEQ_CST));
}

static void virtio_mmio_set(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    uint32_t *word = virtio_mmio_register(mmio, offset);

    __atomic_store_n(word, htole32(value), __ATOMIC_SEQ_CST);
    mmio->notifiers.clean_shadow(word);
}

static void virtio_mmio_set_interrupt(struct virtio_mmio *mmio, uint32_t bit)
{
    uint32_t *word = virtio_mmio_register(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);

    __atomic_fetch_or(word, htole32(bit), __ATOMIC_SEQ_CST);
    mmio->notifiers.clean_shadow(word);
}

/* vhost cannot set InterruptStatus, so INT_VRING stays set while it has a call fd. */
static void virtio_mmio_clear_interrupt(struct virtio_mmio *mmio, uint32_t bits)
{
    uint32_t *word = virtio_mmio_register(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);

    if (__atomic_load_n(&mmio->call_fds, __ATOMIC_SEQ_CST))
        bits &= ~(uint32_t)VIRTIO_MMIO_INT_VRING;
    __atomic_fetch_and(word, ~htole32(bits), __ATOMIC_SEQ_CST);
    mmio->notifiers.clean_shadow(word);
}

/* Updates the registers that depend on a selector register. Under the lock. */
static void virtio_mmio_sync_selected(struct virtio_mmio *mmio)
{
    struct virtio_device *v = mmio->virtio;
    uint64_t features = virtio_offered_features(v);
    unsigned queue = mmio->queue_select, half = mmio->features_select;

    virtio_mmio_set(mmio, VIRTIO_MMIO_DEVICE_FEATURES,
                    half > 1 ? 0 : (uint32_t)(features >> 32 * half));
    virtio_mmio_set(mmio, VIRTIO_MMIO_QUEUE_NUM_MAX, virtio_queue_max(v, queue));
    virtio_mmio_set(mmio, VIRTIO_MMIO_QUEUE_READY, virtio_queue_ready(v, queue));
}

/* vCPUs and the loop both change the status, so it is copied until it is stable. */
static void virtio_mmio_sync_status(struct virtio_mmio *mmio)
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

/* Virtio 1.2, 2.5.1: a driver rereads until the generation is the same before and after. */
static void virtio_mmio_sync_config(struct virtio_mmio *mmio)
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

static void virtio_mmio_sync(void *transport)
{
    virtio_mmio_sync_config(transport);
    virtio_mmio_sync_status(transport);
}

/* Consumes a pending InterruptACK; false if there is none. */
static bool virtio_mmio_take_ack(struct virtio_mmio *mmio)
{
    uint64_t count;

    return read(mmio->ack.fd, &count, sizeof(count)) == sizeof(count);
}

static void virtio_mmio_ack_ready(struct watch *watch, short revents)
{
    struct virtio_mmio *mmio = container_of(watch, struct virtio_mmio, ack);

    mmio->ack_reads++;
    if (virtio_mmio_take_ack(mmio))
        virtio_mmio_clear_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
}

static void virtio_mmio_raise(struct virtio_mmio *mmio, uint32_t bit)
{
    uint64_t one = 1;

    virtio_mmio_set_interrupt(mmio, bit);
    if (write(mmio->irqfd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN);
}

/*
 * A pending ACK belongs to earlier interrupts: it is discarded before a new one is raised. It may
 * be pending with the bit clear, if the driver read the bit before the loop cleared it.
 */
static void virtio_mmio_interrupt(void *transport, unsigned queue)
{
    struct virtio_mmio *mmio = transport;

    mmio->ack_reads++;
    virtio_mmio_take_ack(mmio);
    virtio_mmio_raise(mmio, VIRTIO_MMIO_INT_VRING);
}

static void virtio_mmio_interrupt_config(void *transport)
{
    virtio_mmio_raise(transport, VIRTIO_MMIO_INT_CONFIG);
}

/*
 * All queues share one interrupt. While vhost has it INT_VRING is always set and ACKs are not
 * watched: the driver checks its rings at every interrupt, sometimes in vain.
 */
static int virtio_mmio_get_call_fd(void *transport, unsigned queue)
{
    struct virtio_mmio *mmio = transport;

    if (__atomic_fetch_or(&mmio->call_fds, 1u << queue, __ATOMIC_SEQ_CST) == 0) {
        loop_remove(mmio->virtio->loop, &mmio->ack);
        virtio_mmio_set_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
    }
    return mmio->irqfd;
}

static void virtio_mmio_put_call_fd(void *transport, unsigned queue)
{
    struct virtio_mmio *mmio = transport;

    if (__atomic_fetch_and(&mmio->call_fds, ~(1u << queue), __ATOMIC_SEQ_CST) != 1u << queue)
        return; /* another queue's is in use, or none was */
    virtio_mmio_take_ack(mmio);
    virtio_mmio_clear_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
    loop_add(mmio->virtio->loop, &mmio->ack);
}

static const struct virtio_transport_ops virtio_mmio_transport = {
    .interrupt = virtio_mmio_interrupt,
    .sync = virtio_mmio_sync,
    .interrupt_config = virtio_mmio_interrupt_config,
    .get_call_fd = virtio_mmio_get_call_fd,
    .put_call_fd = virtio_mmio_put_call_fd,
};

static void virtio_mmio_assign_irqfd(struct virtio_mmio *mmio, bool assign)
{
    const struct notifiers *n = &mmio->notifiers;
    int error = n->irqfd(n->vm, mmio->gsi, mmio->irqfd, assign);

    if (error)
        log_error(-error, "%s: assign an irqfd to interrupt %u", mmio->virtio->name, mmio->gsi);
}

/* Without an ioeventfd the write exits to user space: slower, but correct. */
static void virtio_mmio_assign_ioeventfd(struct virtio_mmio *mmio, uint64_t offset, uint32_t value,
                                         int eventfd, bool assign)
{
    const struct notifiers *n = &mmio->notifiers;
    int error = n->ioeventfd(n->vm, mmio->region.base + offset, value, eventfd, assign);

    if (error)
        log_warn("%s: no ioeventfd for register %#llx: %s", mmio->virtio->name,
                 (unsigned long long)offset, strerror(-error));
}

/* Assigns the irqfd, the ioeventfds and the shadow page in KVM, or deassigns the eventfds. */
static void virtio_mmio_connect(struct virtio_mmio *mmio, bool connected)
{
    struct virtio_device *v = mmio->virtio;

    if (mmio->connected == connected)
        return;
    mmio->connected = connected;

    virtio_mmio_assign_irqfd(mmio, connected);
    for (unsigned i = 0; i < v->queue_count; i++)
        virtio_mmio_assign_ioeventfd(mmio, VIRTIO_MMIO_QUEUE_NOTIFY, i, virtio_kick_fd(v, i),
                                     connected);
    virtio_mmio_assign_ioeventfd(mmio, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING,
                                 mmio->ack.fd, connected);
    if (connected && mmio->notifiers.map_shadow(mmio->notifiers.vm))
        log_debug("%s: KVM has no read-only memory: register reads exit", v->name);
}

static void virtio_mmio_reset(struct virtio_mmio *mmio)
{
    virtio_reset(mmio->virtio);
    mmio->features_select = mmio->driver_features_select = mmio->queue_select = 0;
    mmio->driver_features = 0;
    virtio_mmio_take_ack(mmio);
    virtio_mmio_clear_interrupt(mmio, UINT32_MAX);
}

/* Waits until KVM has injected what the irqfd was signalled, if there still is a virtual machine.
 */
static void virtio_mmio_device_reset(struct device *dev)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);

    virtio_mmio_connect(mmio, false);
    virtio_mmio_reset(mmio);
    virtio_mmio_sync_selected(mmio);
    virtio_mmio_sync_status(mmio);
}

static void virtio_mmio_write_status(struct virtio_mmio *mmio, uint32_t status)
{
    if (status == 0) {
        virtio_mmio_reset(mmio);
        return;
    }
    virtio_mmio_connect(mmio, true); /* only for a driver: it is slow */
    virtio_set_status(mmio->virtio, status);
}

static void virtio_mmio_write_queue(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtio_device *v = mmio->virtio;
    unsigned queue = mmio->queue_select;

    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        virtio_set_queue_size(v, queue, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        virtio_set_queue_address(v, queue, VIRTIO_RING_DESC, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH,
                                 value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        virtio_set_queue_address(v, queue, VIRTIO_RING_AVAIL,
                                 offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        virtio_set_queue_address(v, queue, VIRTIO_RING_USED, offset == VIRTIO_MMIO_QUEUE_USED_HIGH,
                                 value);
        break;
    case VIRTIO_MMIO_QUEUE_READY:
        virtio_set_queue_ready(v, queue, value & 1);
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
            mmio->driver_features = (mmio->driver_features & ~(uint64_t)UINT32_MAX) | value;
        else if (mmio->driver_features_select == 1)
            mmio->driver_features = (mmio->driver_features & UINT32_MAX) | (uint64_t)value << 32;
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
    virtio_mmio_sync_selected(mmio);
    virtio_mmio_sync_status(mmio);
}

static void virtio_mmio_write_config(struct virtio_mmio *mmio, uint64_t offset, unsigned size,
                                     uint64_t value)
{
    unsigned config_size = mmio->virtio->ops->config_size;

    if (offset < config_size && size <= config_size - offset)
        virtio_write_config(mmio->virtio, (unsigned)offset, size, value);
}

/* Reads exit only if KVM has no read-only memory. */
static uint64_t virtio_mmio_read(void *owner, uint64_t offset, unsigned size)
{
    struct virtio_mmio *mmio = owner;
    const uint8_t *bytes = (const uint8_t *)mmio->shadow + offset;
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
    ret->calls += mmio->ack_reads;
    ret->exits = mmio->region.accesses;
}

static void virtio_mmio_destroy(struct device *dev)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);
    struct loop *loop = mmio->virtio->loop;

    virtio_destroy(mmio->virtio);
    loop_remove(loop, &mmio->ack); /* last: putting back the call fd may add it again */
    close(mmio->ack.fd);
    close(mmio->irqfd);
    pthread_mutex_destroy(&mmio->lock);
    free(mmio);
}

static int virtio_mmio_pause(struct device *dev, uint64_t deadline_ns)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);
    int error = virtio_pause(mmio->virtio, deadline_ns);

    if (!error && virtio_mmio_take_ack(mmio))
        virtio_mmio_clear_interrupt(mmio, VIRTIO_MMIO_INT_VRING);
    return error;
}

/* On the loop: is the configuration still as the driver of the saved machine has read it? */
static void virtio_mmio_compare_config(void *arg)
{
    uint32_t config[VIRTIO_MAX_CONFIG / sizeof(uint32_t)];
    struct virtio_mmio *mmio = arg;

    virtio_read_config(mmio->virtio, config);
    if (memcmp(config, virtio_mmio_register(mmio, VIRTIO_MMIO_CONFIG), sizeof(config)))
        virtio_config_changed(mmio->virtio);
}

/* Raises pending interrupts again after a load: a spurious one is harmless, a lost one hangs. */
static void virtio_mmio_resume(struct device *dev)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);
    uint32_t pending = virtio_mmio_get(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);

    if (virtio_status(mmio->virtio))
        virtio_mmio_connect(mmio, true);
    virtio_resume(mmio->virtio);
    if (mmio->loaded && pending)
        virtio_mmio_raise(mmio, pending);
    if (mmio->loaded)
        loop_call(mmio->virtio->loop, virtio_mmio_compare_config, mmio);
    mmio->loaded = false;
}

/* The configuration as the driver has read it. If it differs now, resume() changes generation. */
static void virtio_mmio_config_state(struct virtio_mmio *mmio, struct state *s)
{
    uint32_t config[VIRTIO_MAX_CONFIG / sizeof(uint32_t)];
    uint32_t generation = virtio_mmio_get(mmio, VIRTIO_MMIO_CONFIG_GENERATION);

    for (unsigned i = 0; i < ARRAY_SIZE(config); i++)
        config[i] = htole32(virtio_mmio_get(mmio, VIRTIO_MMIO_CONFIG + i * sizeof(uint32_t)));
    state_bytes(s, "config", config, sizeof(config));
    state_u32(s, "config_generation", &generation);
    if (!s->loading || s->error)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(config); i++)
        virtio_mmio_set(mmio, VIRTIO_MMIO_CONFIG + i * sizeof(uint32_t), le32toh(config[i]));
    virtio_mmio_set(mmio, VIRTIO_MMIO_CONFIG_GENERATION, generation);
}

static void virtio_mmio_state(struct device *dev, struct state *s)
{
    struct virtio_mmio *mmio = container_of(dev, struct virtio_mmio, device);
    uint32_t interrupts = virtio_mmio_get(mmio, VIRTIO_MMIO_INTERRUPT_STATUS);

    /* Waits until KVM has injected what the irqfd was signalled, so that its own state has it. */
    if (!s->loading)
        virtio_mmio_connect(mmio, false);
    state_section(s, dev->name, 1);
    state_field(s, mmio, features_select);
    state_field(s, mmio, driver_features_select);
    state_field(s, mmio, queue_select);
    state_field(s, mmio, driver_features);
    state_u32(s, "interrupt_status", &interrupts);
    virtio_mmio_config_state(mmio, s);
    virtio_state(mmio->virtio, s);
    if (s->loading && !s->error) {
        virtio_mmio_set(mmio, VIRTIO_MMIO_INTERRUPT_STATUS, interrupts & INTERRUPTS);
        virtio_mmio_sync_selected(mmio);
        virtio_mmio_sync_status(mmio);
        mmio->loaded = true;
    }
    state_end_section(s);
}

static const struct device_ops virtio_mmio_device_ops = {
    virtio_mmio_device_reset, virtio_mmio_pause, virtio_mmio_resume,
    virtio_mmio_state,        virtio_mmio_count, virtio_mmio_destroy,
};

/* Fills the shadow page: constants, and all other registers as after a reset. */
static void virtio_mmio_sync_all(struct virtio_mmio *mmio)
{
    virtio_mmio_set(mmio, VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
    virtio_mmio_set(mmio, VIRTIO_MMIO_VERSION, VERSION);
    virtio_mmio_set(mmio, VIRTIO_MMIO_DEVICE_ID, mmio->virtio->ops->type);
    virtio_mmio_set(mmio, VIRTIO_MMIO_VENDOR_ID, VENDOR_ID);
    for (uint64_t reg = VIRTIO_MMIO_SHM_LEN_LOW; reg <= VIRTIO_MMIO_SHM_BASE_HIGH; reg += 4)
        virtio_mmio_set(mmio, reg, UINT32_MAX); /* 4.2.2: length -1, no shared memory */
    virtio_mmio_sync_selected(mmio);
    virtio_mmio_sync(mmio);
}

int virtio_mmio_create(struct virtio_mmio **ret, struct virtio_device *virtio, uint64_t base,
                       uint32_t gsi, const struct notifiers *notifiers, void *shadow)
{
    struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));

    if (!mmio)
        return log_error(ENOMEM, "%s", virtio->name);
    *mmio = (struct virtio_mmio){
        .device = { .name = virtio->name, .ops = &virtio_mmio_device_ops },
        .region = { .name = virtio->name,
                    .base = base,
                    .size = VIRTIO_MMIO_REGISTERS_SIZE,
                    .ops = &virtio_mmio_io_ops,
                    .owner = mmio },
        .virtio = virtio,
        .notifiers = *notifiers,
        .gsi = gsi,
        .irqfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .shadow = shadow,
        .ack = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                 .events = POLLIN,
                 .ready = virtio_mmio_ack_ready },
    };
    if (mmio->irqfd < 0 || mmio->ack.fd < 0) {
        int error = log_error(errno, "%s: create an eventfd", virtio->name);

        if (mmio->irqfd >= 0)
            close(mmio->irqfd);
        if (mmio->ack.fd >= 0)
            close(mmio->ack.fd);
        free(mmio);
        return error;
    }
    pthread_mutex_init(&mmio->lock, NULL);
    virtio->transport_ops = &virtio_mmio_transport;
    virtio->transport = mmio;
    loop_add(virtio->loop, &mmio->ack);
    virtio_mmio_sync_all(mmio);
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
