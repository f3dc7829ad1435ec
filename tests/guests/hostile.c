/* SPDX-License-Identifier: MIT */

/*
 * Attacks the device that the command line names. After each attack the device must have set
 * NEEDS_RESET or still work, depending on the attack, and work again after a reset. With a second
 * word, "vhost", vhost-net serves the queues: it need not detect an attack, only survive it.
 */
#include "lib/sanity.h"

#define ALL       (~0ull)
#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)

static struct queue queues[MAX_QUEUES];
static struct queue *q; /* the one that is attacked */
static struct virtio v;
static const struct sanity *device;
static bool vhost;

static uint8_t buffer[64];
static struct descriptor table[QUEUE_SIZE + 1]; /* a chain longer than the queue */
static struct descriptor nested;

static void start(uint64_t features)
{
    virtio_start(&v, features, queues, device->queues);
}

static void check_needs_reset(void)
{
    if (vhost)
        return;
    expect(virtio_needs_reset(&v));
    wait_for(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
}

/* Base addresses, known at run time only, for the offsets in the tables below. */
enum place { ZERO, BUFFER, TABLE, NESTED, RAM_END, HOLE, DEVICE, DESC, AVAIL, USED };

struct where {
    enum place place;
    int64_t offset;
};

static uint64_t ram_end(void)
{
    struct range ram;

    expect(platform_ram(0, &ram));
    for (unsigned i = 1; platform_ram(i, &ram); i++)
        ;
    return ram.base + ram.size;
}

static uint64_t address(struct where where)
{
    const uint64_t bases[] = {
        [ZERO] = 0,
        [BUFFER] = (uintptr_t)buffer,
        [TABLE] = (uintptr_t)table,
        [NESTED] = (uintptr_t)&nested,
        [RAM_END] = ram_end(),
        [HOLE] = platform_hole(),
        [DEVICE] = v.base,
        [DESC] = (uintptr_t)q->desc,
        [AVAIL] = (uintptr_t)&q->avail,
        [USED] = (uintptr_t)&q->used,
    };

    return bases[where.place] + (uint64_t)where.offset;
}

/* Chains that break a queue. */
#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

static const struct chain {
    const char *name;
    struct {
        struct where where;
        uint32_t len;
        uint16_t flags, next;
    } desc[2];
    uint16_t head;
    uint16_t ahead; /* avail.idx; 0: 1, which is correct */
} chains[] = {
    { "descriptor_loop", { { { BUFFER, 0 }, 1, NEXT, 1 }, { { BUFFER, 0 }, 1, NEXT, 0 } }, 0, 0 },
    { "descriptor_loop_of_one", { { { BUFFER, 0 }, 1, NEXT, 0 } }, 0, 0 },
    { "chain_longer_than_the_queue", { { { TABLE, 0 }, sizeof(table), INDIRECT, 0 } }, 0, 0 },
    { "indirect_table_of_odd_length", { { { TABLE, 0 }, 17, INDIRECT, 0 } }, 0, 0 },
    { "indirect_table_of_no_length", { { { TABLE, 0 }, 0, INDIRECT, 0 } }, 0, 0 },
    { "indirect_table_nested", { { { NESTED, 0 }, sizeof(nested), INDIRECT, 0 } }, 0, 0 },
    { "indirect_table_with_next", { { { TABLE, 0 }, 16, INDIRECT | NEXT, 1 } }, 0, 0 },
    { "indirect_table_outside_ram", { { { HOLE, 0 }, 16, INDIRECT, 0 } }, 0, 0 },
    { "indirect_table_across_the_end_of_ram", { { { RAM_END, -16 }, 32, INDIRECT, 0 } }, 0, 0 },
    { "indirect_table_at_device_registers", { { { DEVICE, 0 }, 16, INDIRECT, 0 } }, 0, 0 },
    { "head_out_of_range", { { { BUFFER, 0 }, 1, 0, 0 } }, QUEUE_SIZE, 0 },
    { "head_far_out_of_range", { { { BUFFER, 0 }, 1, 0, 0 } }, 0xffff, 0 },
    { "next_out_of_range", { { { BUFFER, 0 }, 1, NEXT, QUEUE_SIZE } }, 0, 0 },
    { "next_out_of_range_of_indirect_table", { { { TABLE, 0 }, 16, INDIRECT, 0 } }, 0, 0 },
    { "buffer_in_the_gap", { { { HOLE, 0 }, 16, 0, 0 } }, 0, 0 },
    { "buffer_past_ram", { { { RAM_END, 0 }, 1, WRITE, 0 } }, 0, 0 },
    { "buffer_across_the_end_of_ram", { { { RAM_END, -8 }, 16, WRITE, 0 } }, 0, 0 },
    { "buffer_wrapping_past_2_64", { { { ZERO, -8 }, 16, 0, 0 } }, 0, 0 },
    { "buffer_of_4_gib", { { { BUFFER, 0 }, 0xffffffff, WRITE, 0 } }, 0, 0 },
    { "buffer_at_device_registers", { { { DEVICE, 0 }, 16, WRITE, 0 } }, 0, 0 },
    { "readable_after_writable",
      { { { BUFFER, 0 }, 1, WRITE | NEXT, 1 }, { { BUFFER, 0 }, 1, 0, 0 } },
      0,
      0 },
    { "avail_index_too_far_ahead", { { { BUFFER, 0 }, 1, 0, 0 } }, 0, QUEUE_SIZE + 1 },
    { "avail_index_backwards", { { { BUFFER, 0 }, 1, 0, 0 } }, 0, 0xffff },
};

static void fill_tables(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        table[i] = (struct descriptor){ (uintptr_t)buffer, 1, NEXT, (uint16_t)(i + 1) };
    table[QUEUE_SIZE].flags = 0;
    nested = (struct descriptor){ (uintptr_t)table, sizeof(table), INDIRECT, 0 };
}

static void try_chain(const struct chain *chain)
{
    start(ALL);
    for (unsigned i = 0; i < ARRAY_SIZE(chain->desc); i++)
        q->desc[i] = (struct descriptor){ address(chain->desc[i].where), chain->desc[i].len,
                                          chain->desc[i].flags, chain->desc[i].next };
    queue_offer(q, chain->head);
    if (chain->ahead)
        q->avail.idx = chain->ahead;
    virtio_notify(&v, device->queue);
    check_needs_reset();
}

/* Queue addresses and sizes that a device must refuse. */
static const struct layout {
    const char *name;
    struct where desc, avail, used;
    uint32_t size;
} layouts[] = {
    { "queue_size_0", { DESC, 0 }, { AVAIL, 0 }, { USED, 0 }, 0 },
    { "queue_size_no_power_of_two", { DESC, 0 }, { AVAIL, 0 }, { USED, 0 }, 3 },
    { "descriptors_in_the_gap", { HOLE, 0 }, { AVAIL, 0 }, { USED, 0 }, QUEUE_SIZE },
    { "avail_ring_in_the_gap", { DESC, 0 }, { HOLE, 0 }, { USED, 0 }, QUEUE_SIZE },
    { "used_ring_in_the_gap", { DESC, 0 }, { AVAIL, 0 }, { HOLE, 0 }, QUEUE_SIZE },
    { "descriptors_across_the_end_of_ram",
      { RAM_END, -16 },
      { AVAIL, 0 },
      { USED, 0 },
      QUEUE_SIZE },
    { "avail_ring_across_the_end_of_ram", { DESC, 0 }, { RAM_END, -4 }, { USED, 0 }, QUEUE_SIZE },
    { "used_ring_across_the_end_of_ram", { DESC, 0 }, { AVAIL, 0 }, { RAM_END, -4 }, QUEUE_SIZE },
    { "descriptors_wrapping_past_2_64", { ZERO, -16 }, { AVAIL, 0 }, { USED, 0 }, QUEUE_SIZE },
    { "used_ring_at_device_registers", { DESC, 0 }, { AVAIL, 0 }, { DEVICE, 0 }, QUEUE_SIZE },
    { "descriptors_unaligned", { DESC, 8 }, { AVAIL, 0 }, { USED, 0 }, QUEUE_SIZE },
    { "avail_ring_unaligned", { DESC, 0 }, { AVAIL, 1 }, { USED, 0 }, QUEUE_SIZE },
    { "used_ring_unaligned", { DESC, 0 }, { AVAIL, 0 }, { USED, 2 }, QUEUE_SIZE },
};

static void try_layout(const struct layout *layout)
{
    struct queue_layout place = { address(layout->desc), address(layout->avail),
                                  address(layout->used), layout->size };

    virtio_reset(&v);
    expect(virtio_negotiate(&v, virtio_device_features(&v)));
    virtio_set_up_queue(&v, device->queue, &place);
    virtio_driver_ok(&v);
    virtio_notify(&v, device->queue);
    check_needs_reset();
}

/* Attacks that need code. */

static void kick_before_driver_ok(void)
{
    virtio_reset(&v);
    expect(virtio_negotiate(&v, virtio_device_features(&v)));
    for (unsigned i = 0; i < device->queues; i++)
        virtio_add_queue(&v, i, &queues[i]);
    sanity_submit(device, &v, q);
    virtio_driver_ok(&v);
    sanity_wait(device, q);
}

static void notify_in_every_state(void)
{
    static const uint32_t numbers[] = { 0, 1, 2, 7, 8, 0xffff, 0x10000, 0xffffffff };

    virtio_reset(&v);
    for (uint32_t status = 0; status < 16; status = status << 1 | 1) {
        virtio_add_status(&v, status);
        for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
            virtio_notify(&v, numbers[i]);
    }
}

static void queue_reconfigured_while_live(void)
{
    const struct queue_layout elsewhere = { address((struct where){ HOLE, 0 }), 2, 4, 4 };

    start(ALL);
    virtio_set_up_queue(&v, device->queue, &elsewhere);
    virtio_set(&v, VIRTIO_MMIO_QUEUE_READY, 0);
    expect_equal(virtio_get(&v, VIRTIO_MMIO_QUEUE_READY), 1);
    sanity_check(device, &v, q);
}

static void queue_reconfigured_once_ready(void)
{
    const struct queue_layout elsewhere = { address((struct where){ HOLE, 0 }), 2, 4, 4 };

    virtio_reset(&v);
    expect(virtio_negotiate(&v, virtio_device_features(&v)));
    for (unsigned i = 0; i < device->queues; i++)
        virtio_add_queue(&v, i, &queues[i]);
    virtio_set_up_queue(&v, device->queue, &elsewhere);
    virtio_driver_ok(&v);
    sanity_check(device, &v, q);
}

static void queue_out_of_range(void)
{
    const uint32_t absent[] = { device->queues, 8, 0xffff, 0x10000, 0xffffffff };
    const struct queue_layout place = queue_layout(q);

    virtio_reset(&v);
    expect(virtio_negotiate(&v, virtio_device_features(&v)));
    for (unsigned i = 0; i < ARRAY_SIZE(absent); i++) {
        virtio_set_up_queue(&v, absent[i], &place);
        expect_equal(virtio_get(&v, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        expect_equal(virtio_get(&v, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    virtio_driver_ok(&v);
    virtio_notify(&v, device->queues);
}

static void queue_larger_than_the_maximum(void)
{
    struct queue_layout place = queue_layout(q);
    uint32_t most;

    virtio_reset(&v);
    expect(virtio_negotiate(&v, virtio_device_features(&v)));
    virtio_set(&v, VIRTIO_MMIO_QUEUE_SEL, device->queue);
    most = virtio_get(&v, VIRTIO_MMIO_QUEUE_NUM_MAX);
    expect(most >= QUEUE_SIZE);
    place.size = 2 * most;
    virtio_set_up_queue(&v, device->queue, &place);
    virtio_driver_ok(&v);
    virtio_notify(&v, device->queue);
}

static void features_not_offered(void)
{
    uint64_t offered;

    virtio_reset(&v);
    offered = virtio_device_features(&v);
    for (unsigned bit = 0; bit < 64; bit++) {
        if (offered >> bit & 1)
            continue;
        expect(!virtio_negotiate(&v, offered | 1ull << bit));
        virtio_driver_ok(&v);
        expect(!(virtio_status(&v) & VIRTIO_CONFIG_S_DRIVER_OK));
    }
    expect(virtio_negotiate(&v, offered));
}

static void version_1_refused(void)
{
    virtio_reset(&v);
    expect(!virtio_negotiate(&v, virtio_device_features(&v) & ~VERSION_1));
}

static void features_changed_after_features_ok(void)
{
    virtio_reset(&v);
    expect(virtio_negotiate(&v, VERSION_1));
    virtio_set(&v, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    virtio_set(&v, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)virtio_device_features(&v));
    for (unsigned i = 0; i < device->queues; i++)
        virtio_add_queue(&v, i, &queues[i]);
    virtio_driver_ok(&v);
    queue_describe(q, 0, &table[QUEUE_SIZE], sizeof(table[0]), INDIRECT, 0);
    queue_offer(q, 0);
    virtio_notify(&v, device->queue);
    check_needs_reset(); /* indirect tables were not agreed on */
}

static void driver_ok_without_features_ok(void)
{
    virtio_reset(&v);
    virtio_set(&v, VIRTIO_MMIO_STATUS,
               VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    expect(!(virtio_status(&v) & VIRTIO_CONFIG_S_DRIVER_OK));
}

static void status_backwards(void)
{
    uint32_t before;

    start(ALL);
    before = virtio_status(&v);
    virtio_set(&v, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    expect_equal(virtio_status(&v), before);
    virtio_set(&v, VIRTIO_MMIO_STATUS, before | VIRTIO_CONFIG_S_NEEDS_RESET | 0x30);
    expect_equal(virtio_status(&v), before); /* set by the device only, or reserved */
    sanity_check(device, &v, q);
}

static void interrupt_status_and_acknowledge(void)
{
    if (vhost)
        return; /* InterruptStatus always has the bit of used buffers */
    start(VERSION_1);
    expect_equal(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    sanity_check(device, &v, q);
    wait_for(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_VRING);
    virtio_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, ~(uint32_t)VIRTIO_MMIO_INT_VRING);
    expect_equal(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    virtio_set(&v, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    wait_for(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS) == 0);
}

/* When the second request has been answered, an interrupt for the first would have come. */
static void interrupts_suppressed(void)
{
    if (vhost)
        return; /* see above */
    start(VERSION_1);
    q->avail.flags = VRING_AVAIL_F_NO_INTERRUPT;
    sanity_check(device, &v, q);
    sanity_check(device, &v, q);
    expect_equal(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);

    start(VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX);
    q->avail.used_event = 1;
    sanity_check(device, &v, q);
    expect_equal(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    sanity_check(device, &v, q);
    wait_for(virtio_get(&v, VIRTIO_MMIO_INTERRUPT_STATUS) == VIRTIO_MMIO_INT_VRING);
}

static void one_head_twice(void)
{
    start(ALL);
    queue_submit(q, &device->request);
    sanity_submit(device, &v, q);
    sanity_wait(device, q);
    sanity_wait(device, q);
}

/* Wraps around the ring's size; wrapping the 16-bit indices would take too long. */
static void ring_wraps(void)
{
    start(ALL);
    for (unsigned i = 0; i < 2 * QUEUE_SIZE + 1; i++)
        sanity_check(device, &v, q);
}

#define POISON 0xa5

static void reset_with_requests_in_flight(void)
{
    for (unsigned round = 0; round < 8; round++) {
        start(ALL);
        for (unsigned i = 0; i < QUEUE_SIZE; i++)
            queue_submit(q, &device->request);
        virtio_notify(&v, device->queue);
        virtio_reset(&v);
        memset(q, POISON, sizeof(*q));
        for (uint64_t end = platform_ms() + 2; platform_ms() < end;)
            platform_relax();
        for (unsigned i = 0; i < sizeof(*q); i++)
            expect_equal(((volatile uint8_t *)q)[i], POISON);
    }
}

static void read_only_registers_written(void)
{
    static const unsigned registers[] = {
        VIRTIO_MMIO_MAGIC_VALUE,      VIRTIO_MMIO_VERSION,           VIRTIO_MMIO_DEVICE_ID,
        VIRTIO_MMIO_VENDOR_ID,        VIRTIO_MMIO_DEVICE_FEATURES,   VIRTIO_MMIO_QUEUE_NUM_MAX,
        VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_CONFIG_GENERATION,
    };

    start(ALL);
    for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
        uint32_t before = virtio_get(&v, registers[i]);

        virtio_set(&v, registers[i], ~before);
        expect_equal(virtio_get(&v, registers[i]), before);
    }
    sanity_check(device, &v, q);
}

/* A byte reads the same in every width, and reads do not change the configuration. */
static void config_space_of_any_width(void)
{
    uint32_t generation;

    start(ALL);
    generation = virtio_get(&v, VIRTIO_MMIO_CONFIG_GENERATION);
    for (unsigned offset = 0; offset < 64; offset++) {
        uintptr_t addr = v.base + VIRTIO_MMIO_CONFIG + offset;
        uint64_t byte = platform_read(addr, 1);

        for (unsigned size = 2; size <= 8; size *= 2)
            expect_equal(platform_read(addr, size) & 0xff, byte);
    }
    expect_equal(virtio_get(&v, VIRTIO_MMIO_CONFIG_GENERATION), generation);
}

static const struct attack {
    const char *name;
    void (*run)(void);
} attacks[] = {
    { "kick_before_driver_ok", kick_before_driver_ok },
    { "notify_in_every_state", notify_in_every_state },
    { "queue_reconfigured_while_live", queue_reconfigured_while_live },
    { "queue_reconfigured_once_ready", queue_reconfigured_once_ready },
    { "queue_out_of_range", queue_out_of_range },
    { "queue_larger_than_the_maximum", queue_larger_than_the_maximum },
    { "features_not_offered", features_not_offered },
    { "version_1_refused", version_1_refused },
    { "features_changed_after_features_ok", features_changed_after_features_ok },
    { "driver_ok_without_features_ok", driver_ok_without_features_ok },
    { "status_backwards", status_backwards },
    { "interrupt_status_and_acknowledge", interrupt_status_and_acknowledge },
    { "interrupts_suppressed", interrupts_suppressed },
    { "one_head_twice", one_head_twice },
    { "ring_wraps", ring_wraps },
    { "reset_with_requests_in_flight", reset_with_requests_in_flight },
    { "read_only_registers_written", read_only_registers_written },
    { "config_space_of_any_width", config_space_of_any_width },
};

/* After a reset the device works. */
static void survived(const char *name)
{
    start(ALL);
    sanity_check(device, &v, q);
    print("ok %s\n", name);
}

int main(void)
{
    device = sanity_device();
    vhost = word_is(1, "vhost");
    q = &queues[device->queue];
    v = virtio_find(device->id, 0);
    fill_tables();
    survived("valid_request");
    for (unsigned i = 0; i < ARRAY_SIZE(chains); i++) {
        try_chain(&chains[i]);
        survived(chains[i].name);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(layouts); i++) {
        try_layout(&layouts[i]);
        survived(layouts[i].name);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(attacks); i++) {
        attacks[i].run();
        survived(attacks[i].name);
    }
    return 0;
}
