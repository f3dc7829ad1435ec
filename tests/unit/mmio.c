/* SPDX-License-Identifier: MIT */
#include "devices/virtio/mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

#define FEATURE_FAKE 5
#define BASE         0x1000
#define RAM_SIZE     (1u << 20)

/* A device with two queues of 16 entries, 12 bytes of configuration, and RAM of its own. */
struct fake {
    struct virtio_device virtio;
    struct guest_memory *mem;
    struct loop *loop;
    struct device *device;
    const struct io_region *region;
    uint32_t shadow[VIRTIO_MMIO_REGISTERS_SIZE / 4]; /* the shadow page */
    uint8_t config;                                  /* first byte of configuration space */
    int interrupt;                                   /* the irqfd and ioeventfds assigned */
    int acknowledge;
    unsigned irqfds, ioeventfds; /* assigned, less those deassigned */
    unsigned shadows;            /* mapped so far */
    unsigned starts, stops, kicks;
    uint64_t written;
};

static uint64_t fake_features(const struct virtio_device *v)
{
    return 1ull << FEATURE_FAKE;
}

static void fake_read_config(struct virtio_device *v, void *config)
{
    for (unsigned i = 0; i < 12; i++)
        ((uint8_t *)config)[i] = (uint8_t)(container_of(v, struct fake, virtio)->config + i);
}

static void fake_write_config(struct virtio_device *v, unsigned offset, unsigned size,
                              uint64_t value)
{
    container_of(v, struct fake, virtio)->written = value;
}

static void fake_start(struct virtio_device *v)
{
    container_of(v, struct fake, virtio)->starts++;
}

static void fake_stop(struct virtio_device *v)
{
    container_of(v, struct fake, virtio)->stops++;
    for (unsigned i = 0; i < v->queue_count; i++)
        v->transport_ops->put_call_fd(v->transport, i);
}

static void fake_kick(struct virtio_device *v, unsigned queue)
{
    container_of(v, struct fake, virtio)->kicks++;
}

static void fake_destroy(struct virtio_device *v)
{
}

static const struct virtio_ops fake_ops = {
    .type = 42,
    .queue_size = 16,
    .config_size = 12,
    .features = fake_features,
    .read_config = fake_read_config,
    .write_config = fake_write_config,
    .start = fake_start,
    .stop = fake_stop,
    .kick = fake_kick,
    .destroy = fake_destroy,
};

static int assign_irqfd(void *vm, uint32_t gsi, int eventfd, bool assign)
{
    struct fake *f = vm;

    f->interrupt = eventfd;
    f->irqfds += assign ? 1u : -1u;
    return 0;
}

static int assign_ioeventfd(void *vm, uint64_t addr, uint32_t value, int eventfd, bool assign)
{
    struct fake *f = vm;

    if (addr == BASE + VIRTIO_MMIO_INTERRUPT_ACK) {
        ck_assert_uint_eq(value, VIRTIO_MMIO_INT_VRING);
        f->acknowledge = eventfd;
    } else {
        ck_assert_uint_eq(addr, BASE + VIRTIO_MMIO_QUEUE_NOTIFY);
        f->ioeventfds += assign ? 1u : -1u;
    }
    return 0;
}

static int map_shadow(void *vm)
{
    ((struct fake *)vm)->shadows++;
    return 0;
}

static void clean_shadow(const void *word)
{
}

/* Takes ownership of `mem`. */
static void fake_init_on(struct fake *f, struct guest_memory *mem)
{
    const struct notifiers notifiers = { assign_irqfd, assign_ioeventfd, map_shadow, clean_shadow,
                                         f };
    struct virtio_mmio *mmio;

    *f = (struct fake){ .mem = mem, .loop = loop_create(), .config = 0xa0, .interrupt = -1 };
    ck_assert_int_eq(
        virtio_init(&f->virtio, &fake_ops, virtio_no_state, 2, "fake0", f->mem, f->loop), 0);
    ck_assert_int_eq(virtio_mmio_create(&mmio, &f->virtio, BASE, 5, &notifiers, f->shadow), 0);
    f->device = virtio_mmio_device(mmio);
    f->region = virtio_mmio_region(mmio);
}

static void fake_init(struct fake *f)
{
    struct guest_memory *mem = guest_memory_create();

    guest_memory_add(mem, 0, RAM_SIZE, NULL);
    fake_init_on(f, mem);
}

static void fake_finish(struct fake *f)
{
    f->device->ops->destroy(f->device);
    loop_destroy(f->loop);
    guest_memory_destroy(f->mem);
}

/* Reads a register by an exit; the result must be the shadow page's. */
static uint32_t get(struct fake *f, uint64_t offset)
{
    uint32_t value = (uint32_t)f->region->ops->read(f->region->owner, offset, 4);

    ck_assert_uint_eq(value, le32toh(f->shadow[offset / 4]));
    return value;
}

static void set(struct fake *f, uint64_t offset, uint32_t value)
{
    f->region->ops->write(f->region->owner, offset, 4, value);
}

enum { ACK = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64, FAILED = 128 };

static uint32_t set_status(struct fake *f, uint32_t status)
{
    set(f, VIRTIO_MMIO_STATUS, status);
    return get(f, VIRTIO_MMIO_STATUS);
}

static void accept_features(struct fake *f, uint32_t low, uint32_t high)
{
    set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    set(f, VIRTIO_MMIO_DRIVER_FEATURES, low);
    set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set(f, VIRTIO_MMIO_DRIVER_FEATURES, high);
}

/* Negotiates up to FEATURES_OK. */
static void negotiate(struct fake *f)
{
    set_status(f, ACK | DRIVER);
    accept_features(f, 1u << FEATURE_FAKE, 1);
    ck_assert_uint_eq(set_status(f, ACK | DRIVER | FEATURES_OK), ACK | DRIVER | FEATURES_OK);
}

static void describe_queue(struct fake *f, unsigned index, uint32_t size, uint32_t desc)
{
    set(f, VIRTIO_MMIO_QUEUE_SEL, index);
    set(f, VIRTIO_MMIO_QUEUE_NUM, size);
    set(f, VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
    set(f, VIRTIO_MMIO_QUEUE_AVAIL_LOW, desc + 0x1000);
    set(f, VIRTIO_MMIO_QUEUE_USED_LOW, desc + 0x2000);
    set(f, VIRTIO_MMIO_QUEUE_READY, 1);
}

START_TEST(identifies_itself)
{
    struct fake f;

    fake_init(&f);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_VERSION), 2);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_DEVICE_ID), 42);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_STATUS), 0);
    set(&f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_DEVICE_FEATURES), 1u << FEATURE_FAKE | 3u << 28);
    set(&f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_DEVICE_FEATURES), 1);
    set(&f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    fake_finish(&f);
}
END_TEST

START_TEST(features_not_offered_are_refused)
{
    const uint32_t refused[][2] = { { 1, 1 }, { 0, 0 }, { 0, 3 }, { UINT32_MAX, UINT32_MAX } };

    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
        struct fake f;

        fake_init(&f);
        set_status(&f, ACK | DRIVER);
        accept_features(&f, refused[i][0], refused[i][1]);
        ck_assert_uint_eq(set_status(&f, ACK | DRIVER | FEATURES_OK), ACK | DRIVER);
        ck_assert_uint_eq(set_status(&f, ACK | DRIVER | FEATURES_OK | DRIVER_OK), ACK | DRIVER);
        ck_assert_uint_eq(f.starts, 0);
        fake_finish(&f);
    }
}
END_TEST

START_TEST(status_goes_forward_only)
{
    struct fake f;

    fake_init(&f);
    ck_assert_uint_eq(set_status(&f, DRIVER_OK), 0);
    ck_assert_uint_eq(set_status(&f, ACK), ACK);
    ck_assert_uint_eq(set_status(&f, DRIVER), ACK | DRIVER);
    ck_assert_uint_eq(set_status(&f, NEEDS_RESET),
                      ACK | DRIVER); /* the device's, not the driver's */
    negotiate(&f);
    accept_features(&f, 0, 1); /* too late */
    ck_assert_uint_eq(f.virtio.features, 1u << FEATURE_FAKE | 1ull << 32);
    ck_assert_uint_eq(set_status(&f, FAILED), ACK | DRIVER | FEATURES_OK | FAILED);
    ck_assert_uint_eq(set_status(&f, DRIVER_OK), ACK | DRIVER | FEATURES_OK | FAILED);
    ck_assert_uint_eq(set_status(&f, 0), 0);
    fake_finish(&f);
}
END_TEST

START_TEST(queues_that_do_not_exist)
{
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    for (uint32_t index = 0; index < 300; index += 1 + index * 3) {
        set(&f, VIRTIO_MMIO_QUEUE_SEL, index);
        ck_assert_uint_eq(get(&f, VIRTIO_MMIO_QUEUE_NUM_MAX), index < 2 ? 16 : 0);
    }
    describe_queue(&f, 2, 16, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
    describe_queue(&f, UINT32_MAX, 16, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
    set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
    set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, 2);
    fake_finish(&f);
}
END_TEST

START_TEST(a_queue_is_read_only_once_ready)
{
    struct fake f;
    struct virtq_layout before;

    fake_init(&f);
    describe_queue(&f, 0, 8, 0x4000); /* no effect before FEATURES_OK */
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_QUEUE_READY), 1);
    before = f.virtio.queues[0].layout;
    describe_queue(&f, 0, 4, 0x8000);
    ck_assert_mem_eq(&f.virtio.queues[0].layout, &before, sizeof(before));
    set_status(&f, DRIVER_OK);
    ck_assert_uint_eq(f.starts, 1);
    before = f.virtio.queues[0].layout;
    describe_queue(&f, 0, 4, 0x8000);
    set(&f, VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_QUEUE_READY), 1);
    ck_assert_mem_eq(&f.virtio.queues[0].layout, &before, sizeof(before));
    describe_queue(&f, 1, 16, 0x8000); /* no effect after DRIVER_OK */
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
    fake_finish(&f);
}
END_TEST

START_TEST(invalid_rings_break_the_queue)
{
    const struct {
        uint32_t size, desc;
    } bad[] = {
        { 0, 0x4000 }, { 3, 0x4000 }, { 8, 0x4008 }, { 8, RAM_SIZE - 16 }, { 8, UINT32_MAX }
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct fake f;

        fake_init(&f);
        negotiate(&f);
        describe_queue(&f, 0, bad[i].size, bad[i].desc);
        ck_assert_uint_ne(set_status(&f, DRIVER_OK) & NEEDS_RESET, 0);
        ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
        ck_assert_uint_eq(set_status(&f, 0), 0); /* works again after a reset */
        negotiate(&f);
        describe_queue(&f, 0, 8, 0x4000);
        ck_assert_uint_eq(set_status(&f, DRIVER_OK) & NEEDS_RESET, 0);
        fake_finish(&f);
    }
}
END_TEST

START_TEST(a_kick_before_driver_ok_is_not_lost)
{
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    ck_assert_uint_eq(f.kicks, 0);
    set_status(&f, DRIVER_OK);
    ck_assert_uint_ge(f.kicks, 1);
    fake_finish(&f);
}
END_TEST

START_TEST(a_kick_after_reset_does_not_reach_the_device)
{
    struct fake f;
    unsigned kicks;

    fake_init(&f);
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    set_status(&f, DRIVER_OK);
    set_status(&f, 0);
    ck_assert_uint_eq(f.stops, 1);
    kicks = f.kicks;
    set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    loop_turn(f.loop, 0); /* would find the eventfd readable if it were still watched */
    ck_assert_uint_eq(f.kicks, kicks);
    fake_finish(&f);
}
END_TEST

START_TEST(interrupts_are_seen_and_acknowledged)
{
    struct fake f;
    uint64_t edges;
    uint32_t generation;

    fake_init(&f);
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    set_status(&f, DRIVER_OK);
    generation = get(&f, VIRTIO_MMIO_CONFIG_GENERATION);
    f.virtio.transport_ops->interrupt(f.virtio.transport, 0);
    f.config++;
    virtio_config_changed(&f.virtio);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    ck_assert_uint_ne(get(&f, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    set(&f, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    set(&f, VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    ck_assert_int_eq(read(f.interrupt, &edges, sizeof(edges)), sizeof(edges));
    ck_assert_uint_eq(edges, 2);
    fake_finish(&f);
}
END_TEST

/* Signals the ioeventfd of InterruptACK, as KVM does. */
static void acknowledge(struct fake *f)
{
    ck_assert_int_eq(write(f->acknowledge, &(uint64_t){ 1 }, sizeof(uint64_t)), sizeof(uint64_t));
}

static void interrupt(struct fake *f)
{
    f->virtio.transport_ops->interrupt(f->virtio.transport, 0);
}

START_TEST(acknowledge_by_ioeventfd)
{
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    set_status(&f, DRIVER_OK);
    interrupt(&f);
    f.config++;
    virtio_config_changed(&f.virtio);
    acknowledge(&f);
    loop_turn(f.loop, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 2); /* the ACK was for buffers only */

    interrupt(&f);
    acknowledge(&f);
    interrupt(&f);
    loop_turn(f.loop, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS),
                      3); /* the ACK was for the one before */

    acknowledge(&f);
    set_status(&f, 0);
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    set_status(&f, DRIVER_OK);
    interrupt(&f);
    loop_turn(f.loop, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 1); /* and not for one after a reset */
    fake_finish(&f);
}
END_TEST

/* Steps of guest, loop and device, which may be interleaved in any order. */
enum step { BUFFERS, CONFIG, LOOP, GUEST, STEPS };

#define ORDER_MAX   12
#define BUFFERS_MAX 3 /* such steps in one order */
#define CONFIG_MAX  1

/*
 * A guest with an interrupt handler like Linux's: it reads InterruptStatus, acknowledges these
 * bits, and only then processes used buffers. Edges before it starts are merged.
 */
struct race {
    struct fake *fake;
    unsigned made[2], taken[2]; /* events, for each bit of InterruptStatus */
    bool edge;
    bool acknowledged; /* since the loop last read the ACK's eventfd */
    enum { WAITS, HAS_READ, HAS_ACKNOWLEDGED } handler;
    uint32_t status; /* InterruptStatus as the handler has read it */
};

static bool race_device(struct race *r, enum step bit)
{
    uint64_t edges;

    if (r->made[bit] == (bit == BUFFERS ? BUFFERS_MAX : CONFIG_MAX))
        return false;
    r->made[bit]++;
    if (bit == CONFIG) {
        r->fake->config++;
        virtio_config_changed(&r->fake->virtio);
    } else {
        interrupt(r->fake);
    }
    ck_assert_int_eq(read(r->fake->interrupt, &edges, sizeof(edges)), sizeof(edges));
    r->edge = true;
    return true;
}

static bool race_loop(struct race *r)
{
    if (!r->acknowledged)
        return false;
    r->acknowledged = false;
    loop_turn(r->fake->loop, 0);
    return true;
}

static void race_acknowledge(struct race *r)
{
    if (r->status == VIRTIO_MMIO_INT_VRING) {
        acknowledge(r->fake);
        r->acknowledged = true;
    } else {
        set(r->fake, VIRTIO_MMIO_INTERRUPT_ACK, r->status);
    }
}

static bool race_guest(struct race *r)
{
    if (r->handler == WAITS && !r->edge)
        return false;
    if (r->handler == WAITS) {
        r->edge = false;
        r->status = get(r->fake, VIRTIO_MMIO_INTERRUPT_STATUS);
    } else if (r->handler == HAS_READ) {
        race_acknowledge(r);
    } else {
        for (unsigned bit = 0; bit < 2; bit++)
            if (r->status >> bit & 1)
                r->taken[bit] = r->made[bit];
    }
    r->handler = r->handler == HAS_ACKNOWLEDGED ? WAITS : r->handler + 1;
    return true;
}

static bool race_step(struct race *r, enum step step)
{
    return step == LOOP ? race_loop(r) : step == GUEST ? race_guest(r) : race_device(r, step);
}

/* Runs an order from a reset on. False if a step is impossible. The guest must get all events. */
static bool race_run(struct fake *f, const enum step *order, unsigned length)
{
    struct race r = { .fake = f };

    set_status(f, 0);
    negotiate(f);
    set_status(f, DRIVER_OK);
    for (unsigned i = 0; i < length; i++)
        if (!race_step(&r, order[i]))
            return false;
    while (race_guest(&r))
        ;
    ck_assert_uint_eq(r.taken[BUFFERS], r.made[BUFFERS]);
    ck_assert_uint_eq(r.taken[CONFIG], r.made[CONFIG]);
    return true;
}

/* Runs all orders that start with these `length` steps; returns how many were possible. */
static unsigned race_run_all(struct fake *f, enum step order[ORDER_MAX], unsigned length)
{
    unsigned runs = 0;

    for (enum step step = 0; length < ORDER_MAX && step < STEPS; step++) {
        order[length] = step;
        if (race_run(f, order, length + 1))
            runs += 1 + race_run_all(f, order, length + 1);
    }
    return runs;
}

START_TEST(no_interleaving_loses_an_interrupt)
{
    enum step order[ORDER_MAX];
    struct fake f;

    fake_init(&f);
    ck_assert_uint_gt(race_run_all(&f, order, 0), 1000);
    fake_finish(&f);
}
END_TEST

START_TEST(interrupt_status_while_a_call_fd_is_in_use)
{
    const struct virtio_transport_ops *ops;
    struct fake f;

    fake_init(&f);
    ops = f.virtio.transport_ops;
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    set_status(&f, DRIVER_OK);
    ck_assert_int_eq(ops->get_call_fd(f.virtio.transport, 0), f.interrupt);
    ck_assert_int_eq(ops->get_call_fd(f.virtio.transport, 1), f.interrupt);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    virtio_config_changed(&f.virtio);
    set(&f, VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX);
    acknowledge(&f);
    loop_turn(f.loop, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 1); /* ACKs have no effect */

    ops->put_call_fd(f.virtio.transport, 0);
    ops->put_call_fd(f.virtio.transport, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 1); /* queue 1's is in use */
    ops->put_call_fd(f.virtio.transport, 1);
    ops->put_call_fd(f.virtio.transport, 1);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    interrupt(&f);
    loop_turn(f.loop, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    acknowledge(&f);
    loop_turn(f.loop, 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    fake_finish(&f);
}
END_TEST

START_TEST(a_device_is_destroyed_while_its_call_fd_is_in_use)
{
    uint64_t one = 1;
    struct fake f;
    int fd;

    fake_init(&f);
    negotiate(&f);
    set_status(&f, DRIVER_OK);
    f.virtio.transport_ops->get_call_fd(f.virtio.transport, 0);
    f.device->ops->destroy(f.device);

    fd = eventfd(0, EFD_NONBLOCK); /* reuses the number of the ACK's eventfd */
    ck_assert_int_eq(dup2(fd, f.acknowledge), f.acknowledge);
    ck_assert_int_eq(write(fd, &one, sizeof(one)), sizeof(one));
    loop_turn(f.loop, 0);
    ck_assert_int_eq(read(fd, &one, sizeof(one)), sizeof(one));
    close(f.acknowledge);
    close(fd);
    loop_destroy(f.loop);
    guest_memory_destroy(f.mem);
}
END_TEST

START_TEST(the_shadow_page_follows_the_device)
{
    struct fake f;

    fake_init(&f);
    ck_assert_uint_eq(f.shadow[VIRTIO_MMIO_MAGIC_VALUE / 4], htole32(0x74726976));
    ck_assert_uint_eq(f.shadow[VIRTIO_MMIO_CONFIG / 4], htole32(0xa3a2a1a0));
    f.config = 0x10;
    virtio_config_changed(&f.virtio); /* no driver yet: no interrupt */
    ck_assert_uint_eq(f.shadow[VIRTIO_MMIO_CONFIG / 4], htole32(0x13121110));
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    f.config = 0x20;
    set(&f, VIRTIO_MMIO_CONFIG, 1); /* a write may change what is read */
    ck_assert_uint_eq(f.shadow[VIRTIO_MMIO_CONFIG / 4], htole32(0x23222120));
    fake_finish(&f);
}
END_TEST

START_TEST(every_width_at_every_offset)
{
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    for (unsigned size = 1; size <= 8; size *= 2)
        for (uint64_t offset = 0; offset + size <= VIRTIO_MMIO_REGISTERS_SIZE; offset++) {
            if (size == 4 && offset == VIRTIO_MMIO_STATUS)
                continue; /* resets the device: tested elsewhere */
            f.region->ops->read(f.region->owner, offset, size);
            f.region->ops->write(f.region->owner, offset, size, UINT64_MAX);
        }
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_STATUS), ACK | DRIVER | FEATURES_OK);
    fake_finish(&f);
}
END_TEST

START_TEST(configuration_space_takes_any_width_within_its_size)
{
    struct fake f;
    const struct io_ops *ops;

    fake_init(&f);
    ops = f.region->ops;
    ck_assert_uint_eq(ops->read(f.region->owner, VIRTIO_MMIO_CONFIG + 3, 1), 0xa3);
    ck_assert_uint_eq(ops->read(f.region->owner, VIRTIO_MMIO_CONFIG + 1, 2), 0xa2a1);
    ck_assert_uint_eq(ops->read(f.region->owner, VIRTIO_MMIO_CONFIG, 8), 0xa7a6a5a4a3a2a1a0);
    ck_assert_uint_eq(ops->read(f.region->owner, VIRTIO_MMIO_CONFIG + 8, 8), 0xabaaa9a8);
    ck_assert_uint_eq(ops->read(f.region->owner, VIRTIO_MMIO_CONFIG + 12, 4), 0);
    ops->write(f.region->owner, VIRTIO_MMIO_CONFIG + 8, 8, 5); /* across its end */
    ck_assert_uint_eq(f.written, 0);
    ops->write(f.region->owner, VIRTIO_MMIO_CONFIG + 8, 4, 5);
    ck_assert_uint_eq(f.written, 5);
    fake_finish(&f);
}
END_TEST

START_TEST(a_machine_reset_assigns_eventfds_again)
{
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    ck_assert_uint_eq(f.ioeventfds, 2);
    set_status(&f, 0);
    negotiate(&f);
    ck_assert_uint_eq(f.ioeventfds, 2); /* a driver's reset keeps them */
    f.device->ops->reset(f.device);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_STATUS), 0);
    ck_assert_uint_eq(f.ioeventfds, 0);
    ck_assert_uint_eq(f.irqfds, 0);
    negotiate(&f);
    ck_assert_uint_eq(f.ioeventfds, 2);
    ck_assert_uint_eq(f.shadows, 2);
    fake_finish(&f);
}
END_TEST

static int pause_fake(struct fake *f)
{
    return f->device->ops->pause(f->device, clock_now_ns() + 1000000000);
}

static void save(struct fake *f, struct state *ret)
{
    state_begin_save(ret);
    f->device->ops->state(f->device, ret);
    ck_assert_int_eq(ret->error, 0);
}

static int load(struct fake *f, const struct state *saved)
{
    struct state in;

    state_begin_load(&in, saved->bytes, saved->at);
    f->device->ops->state(f->device, &in);
    return state_finish(&in);
}

/* How often the irqfd was signalled since the last call. */
static uint64_t edges(struct fake *f)
{
    uint64_t count;

    return read(f->interrupt, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

START_TEST(a_pause_reads_pending_acks)
{
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    describe_queue(&f, 0, 8, 0x4000);
    set_status(&f, DRIVER_OK);
    interrupt(&f);
    acknowledge(&f);
    ck_assert_int_eq(pause_fake(&f), 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    f.device->ops->resume(f.device);

    interrupt(&f);
    edges(&f);
    ck_assert_int_eq(pause_fake(&f), 0);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 1); /* not acknowledged */
    f.device->ops->resume(f.device);
    ck_assert_uint_eq(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    ck_assert_uint_eq(edges(&f), 0); /* it was raised before the pause */
    fake_finish(&f);
}
END_TEST

/* A device in the middle of its work, and a new one on the same memory. */
static void start_and_save(struct fake *old, struct fake *new, struct state *saved)
{
    fake_init(old);
    negotiate(old);
    describe_queue(old, 0, 8, 0x4000);
    set_status(old, DRIVER_OK);
    set(old, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    set(old, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 7);
    set(old, VIRTIO_MMIO_QUEUE_SEL, 1);
    old->config = 0xb0;
    virtio_config_changed(&old->virtio);
    interrupt(old);
    ck_assert_int_eq(pause_fake(old), 0);
    save(old, saved);
    fake_init_on(new, old->mem);
    ck_assert_int_eq(pause_fake(new), 0);
}

static void finish_both(struct fake *old, struct fake *new, struct state *saved)
{
    old->device->ops->destroy(old->device);
    loop_destroy(old->loop);
    fake_finish(new);
    state_finish(saved);
}

START_TEST(registers_are_saved_and_loaded)
{
    struct state saved, again;
    struct fake old, new;

    start_and_save(&old, &new, &saved);
    ck_assert_int_eq(load(&new, &saved), 0);
    ck_assert_mem_eq(new.shadow, old.shadow, sizeof(new.shadow));
    save(&new, &again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);
    state_finish(&again);

    new.config = 0xb0;
    new.device->ops->resume(new.device);
    ck_assert_mem_eq(new.shadow, old.shadow, sizeof(new.shadow));
    set(&new, VIRTIO_MMIO_QUEUE_SEL, 0);
    ck_assert_uint_eq(get(&new, VIRTIO_MMIO_QUEUE_READY), 1);
    finish_both(&old, &new, &saved);
}
END_TEST

START_TEST(pending_interrupts_are_raised_after_a_load)
{
    struct state saved;
    struct fake old, new;

    start_and_save(&old, &new, &saved);
    ck_assert_int_eq(load(&new, &saved), 0);
    ck_assert_uint_eq(new.ioeventfds, 0);
    new.device->ops->resume(new.device);
    ck_assert_uint_eq(new.ioeventfds, 2);
    ck_assert_uint_eq(new.shadows, 1);
    ck_assert_uint_eq(get(&new, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    ck_assert_uint_ge(edges(&new), 1);
    loop_turn(new.loop, 0);
    ck_assert_uint_ge(new.kicks, 1);
    ck_assert_int_eq(pause_fake(&new), 0);
    new.device->ops->resume(new.device);
    ck_assert_uint_eq(edges(&new), 0); /* once */
    ck_assert_uint_eq(new.ioeventfds, 2);
    finish_both(&old, &new, &saved);
}
END_TEST

START_TEST(changed_configuration_after_a_load_is_a_new_generation)
{
    struct state saved;
    struct fake old, new;

    start_and_save(&old, &new, &saved);
    ck_assert_int_eq(load(&new, &saved), 0);
    ck_assert_uint_eq(get(&new, VIRTIO_MMIO_CONFIG), 0xb3b2b1b0);
    new.device->ops->resume(new.device); /* its own first byte is 0xa0 */
    ck_assert_uint_eq(get(&new, VIRTIO_MMIO_CONFIG), 0xa3a2a1a0);
    ck_assert_uint_ne(get(&new, VIRTIO_MMIO_CONFIG_GENERATION),
                      get(&old, VIRTIO_MMIO_CONFIG_GENERATION));
    ck_assert_uint_eq(get(&new, VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2);
    finish_both(&old, &new, &saved);
}
END_TEST

START_TEST(a_truncated_state_is_refused)
{
    struct state saved;
    struct fake old, new;

    start_and_save(&old, &new, &saved);
    saved.at -= 1 + (unsigned)_i * saved.at / 8;
    ck_assert_int_eq(load(&new, &saved), -EINVAL);
    finish_both(&old, &new, &saved);
}
END_TEST

START_TEST(a_saved_device_has_no_eventfds_in_kvm_until_it_resumes)
{
    struct state saved;
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    ck_assert_uint_eq(f.irqfds, 1);
    ck_assert_int_eq(pause_fake(&f), 0);
    ck_assert_uint_eq(f.irqfds, 1); /* a pause that saves nothing leaves them: it is slow */
    save(&f, &saved);
    ck_assert_uint_eq(f.irqfds, 0);
    ck_assert_uint_eq(f.ioeventfds, 0);
    f.device->ops->resume(f.device);
    ck_assert_uint_eq(f.irqfds, 1);
    ck_assert_uint_eq(f.ioeventfds, 2);
    state_finish(&saved);
    fake_finish(&f);
}
END_TEST

/* In its own process, it is reset and loaded. */
START_TEST(a_device_is_rewound)
{
    struct state saved, again;
    struct fake f;

    fake_init(&f);
    negotiate(&f);
    set(&f, VIRTIO_MMIO_QUEUE_SEL, 1);
    ck_assert_int_eq(pause_fake(&f), 0);
    save(&f, &saved);
    f.device->ops->resume(f.device);
    set(&f, VIRTIO_MMIO_QUEUE_SEL, 0);
    f.config++;
    virtio_config_changed(&f.virtio);
    set_status(&f, 0);
    f.config--;
    ck_assert_int_eq(pause_fake(&f), 0);
    f.device->ops->reset(f.device);
    ck_assert_int_eq(load(&f, &saved), 0);
    save(&f, &again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);
    f.device->ops->resume(f.device);
    ck_assert_uint_eq(f.ioeventfds, 2);
    ck_assert_uint_eq(f.irqfds, 1);
    state_finish(&again);
    state_finish(&saved);
    fake_finish(&f);
}
END_TEST

START_TEST(eventfds_are_assigned_by_the_first_driver)
{
    struct state saved;
    struct fake old, new;

    fake_init(&old);
    ck_assert_int_eq(pause_fake(&old), 0);
    save(&old, &saved);
    fake_init_on(&new, old.mem);
    ck_assert_int_eq(load(&new, &saved), 0);
    new.device->ops->resume(new.device);
    ck_assert_uint_eq(new.ioeventfds, 0);
    ck_assert_uint_eq(get(&new, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    negotiate(&new);
    ck_assert_uint_eq(new.ioeventfds, 2);
    finish_both(&old, &new, &saved);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mmio");
    TCase *tcase = tcase_create("mmio");

    tcase_add_test(tcase, identifies_itself);
    tcase_add_test(tcase, features_not_offered_are_refused);
    tcase_add_test(tcase, status_goes_forward_only);
    tcase_add_test(tcase, queues_that_do_not_exist);
    tcase_add_test(tcase, a_queue_is_read_only_once_ready);
    tcase_add_test(tcase, invalid_rings_break_the_queue);
    tcase_add_test(tcase, a_kick_before_driver_ok_is_not_lost);
    tcase_add_test(tcase, a_kick_after_reset_does_not_reach_the_device);
    tcase_add_test(tcase, interrupts_are_seen_and_acknowledged);
    tcase_add_test(tcase, acknowledge_by_ioeventfd);
    tcase_add_test(tcase, no_interleaving_loses_an_interrupt);
    tcase_add_test(tcase, interrupt_status_while_a_call_fd_is_in_use);
    tcase_add_test(tcase, a_device_is_destroyed_while_its_call_fd_is_in_use);
    tcase_add_test(tcase, the_shadow_page_follows_the_device);
    tcase_add_test(tcase, every_width_at_every_offset);
    tcase_add_test(tcase, configuration_space_takes_any_width_within_its_size);
    tcase_add_test(tcase, a_machine_reset_assigns_eventfds_again);
    tcase_add_test(tcase, a_pause_reads_pending_acks);
    tcase_add_test(tcase, registers_are_saved_and_loaded);
    tcase_add_test(tcase, pending_interrupts_are_raised_after_a_load);
    tcase_add_test(tcase, changed_configuration_after_a_load_is_a_new_generation);
    tcase_add_loop_test(tcase, a_truncated_state_is_refused, 0, 8);
    tcase_add_test(tcase, a_saved_device_has_no_eventfds_in_kvm_until_it_resumes);
    tcase_add_test(tcase, a_device_is_rewound);
    tcase_add_test(tcase, eventfds_are_assigned_by_the_first_driver);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
