/* SPDX-License-Identifier: MIT */
#include "devices/virtio/virtq.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <string.h>

#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"

#define QUEUE_SIZE 8

/* A device with one queue that can hold popped requests until the test pushes them. */
struct keeper {
    struct virtio_device virtio;
    bool keep;      /* false: every request is pushed at once */
    unsigned count; /* popped so far */
    struct virtq_chain chains[QUEUE_SIZE + 1];
};

static void keeper_kick(struct virtio_device *v, unsigned queue)
{
    struct keeper *keeper = container_of(v, struct keeper, virtio);
    struct virtq *q = virtio_virtq(v, queue);

    do {
        while (virtq_pop(q, &keeper->chains[keeper->count])) {
            if (keeper->keep)
                keeper->count++;
            else
                virtq_push(q, &keeper->chains[keeper->count], 7);
        }
    } while (!virtq_enable_notification(q));
    virtq_flush(q);
}

static void keeper_destroy(struct virtio_device *v)
{
}

static const struct virtio_ops keeper_ops = {
    .type = 99, .queue_size = QUEUE_SIZE, .kick = keeper_kick, .destroy = keeper_destroy
};

struct guest {
    struct driver d;
    struct keeper keeper;
};

static void guest_init_with(struct guest *g, uint64_t features)
{
    memset(g, 0, sizeof(*g));
    driver_init(&g->d);
    ck_assert_int_eq(virtio_init(&g->keeper.virtio, &keeper_ops, virtio_no_state, 1, "keeper0",
                                 g->d.mem, g->d.loop),
                     0);
    ck_assert(driver_start(&g->d, &g->keeper.virtio, features));
}

static void guest_init(struct guest *g)
{
    guest_init_with(g, BIT(VIRTIO_RING_F_INDIRECT_DESC));
}

static void guest_finish(struct guest *g)
{
    driver_finish(&g->d);
}

static void guest_send(struct guest *g, uint16_t head)
{
    driver_publish(&g->d, 0, head);
    driver_kick(&g->d, 0);
}

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

#define B DRIVER_BUFFERS
enum { N = DRIVER_NEXT, W = DRIVER_WRITE, I = DRIVER_INDIRECT };

/* Chains that violate the specification; each starts at descriptor 0. */
static const struct bad_chain {
    const char *name;
    struct descriptor table[QUEUE_SIZE];
    struct descriptor indirect[QUEUE_SIZE + 1]; /* at B */
} bad_chains[] = {
    { "loop of one", { { B, 1, N, 0 } }, { { 0 } } },
    { "loop of two", { { B, 1, N, 1 }, { B, 1, N, 0 } }, { { 0 } } },
    { "loop that comes back later", { { B, 1, N, 1 }, { B, 1, N, 2 }, { B, 1, N, 1 } }, { { 0 } } },
    { "index out of range", { { B, 1, N, QUEUE_SIZE } }, { { 0 } } },
    { "index far out of range", { { B, 1, N, 0xffff } }, { { 0 } } },
    { "buffer outside RAM", { { DRIVER_RAM, 1, 0, 0 } }, { { 0 } } },
    { "buffer across the end of RAM", { { DRIVER_RAM - 1, 2, 0, 0 } }, { { 0 } } },
    { "buffer in the MMIO gap", { { 0xc0000000, 4, W, 0 } }, { { 0 } } },
    { "buffer that wraps past 2^64", { { UINT64_MAX - 1, 4, 0, 0 } }, { { 0 } } },
    { "buffer of 4 GiB", { { 0, UINT32_MAX, 0, 0 } }, { { 0 } } },
    { "readable after writable", { { B, 1, N | W, 1 }, { B, 1, 0, 0 } }, { { 0 } } },
    { "indirect of no bytes", { { B, 0, I, 0 } }, { { 0 } } },
    { "indirect of bad length", { { B, 24, I, 0 } }, { { B, 1, 0, 0 } } },
    { "indirect unaligned", { { B + 4, 16, I, 0 } }, { { 0 } } },
    { "indirect outside RAM", { { DRIVER_RAM, 16, I, 0 } }, { { 0 } } },
    { "indirect that wraps", { { UINT64_MAX - 15, 32, I, 0 } }, { { 0 } } },
    { "indirect with next", { { B, 16, I | N, 1 }, { B, 1, 0, 0 } }, { { B, 1, 0, 0 } } },
    { "indirect nested", { { B, 32, I, 0 } }, { { B, 16, I, 0 }, { B, 1, 0, 0 } } },
    { "indirect loop", { { B, 16, I, 0 } }, { { B, 1, N, 0 } } },
    { "indirect index out of range", { { B, 32, I, 0 } }, { { B, 1, N, 2 }, { B, 1, 0, 0 } } },
    { "indirect longer than the queue",
      { { B, 16 * 9, I, 0 } },
      { { B, 1, N, 1 },
        { B, 1, N, 2 },
        { B, 1, N, 3 },
        { B, 1, N, 4 },
        { B, 1, N, 5 },
        { B, 1, N, 6 },
        { B, 1, N, 7 },
        { B, 1, N, 8 },
        { B, 1, 0, 0 } } },
};

static void guest_write_chain(struct guest *g, const struct bad_chain *chain)
{
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        driver_describe(&g->d, 0, i, chain->table[i].addr, chain->table[i].len,
                        chain->table[i].flags, chain->table[i].next);
    for (unsigned i = 0; i <= QUEUE_SIZE; i++)
        driver_describe_at(&g->d, B, i, chain->indirect[i].addr, chain->indirect[i].len,
                           chain->indirect[i].flags, chain->indirect[i].next);
}

START_TEST(a_bad_chain_breaks_the_queue)
{
    const struct bad_chain *chain = &bad_chains[_i];
    struct guest g;
    uint32_t head;

    guest_init(&g);
    guest_write_chain(&g, chain);
    guest_send(&g, 0);
    ck_assert_msg(driver_broken(&g.d), "%s", chain->name);
    ck_assert_uint_eq(g.d.config_changes, 1);

    /* Further kicks have no effect ... */
    driver_kick(&g.d, 0);
    ck_assert_uint_eq(g.d.config_changes, 1);
    ck_assert_uint_eq(g.d.interrupts, 0);

    /* ... and after a reset the queue works again. */
    virtio_reset(&g.keeper.virtio);
    memset(driver_ram(&g.d, 0x10000), 0, 0x10000);
    ck_assert(driver_start(&g.d, &g.keeper.virtio, 0));
    driver_describe(&g.d, 0, 0, B, 1, 0, 0);
    guest_send(&g, 0);
    ck_assert(driver_wait(&g.d, 0, &head, NULL));
    guest_finish(&g);
}
END_TEST

START_TEST(head_out_of_range)
{
    for (uint32_t head = QUEUE_SIZE; head <= 0xffff; head = head * 2 + 1) {
        struct guest g;

        guest_init(&g);
        guest_send(&g, (uint16_t)head);
        ck_assert(driver_broken(&g.d));
        guest_finish(&g);
    }
}
END_TEST

START_TEST(avail_index_more_than_queue_size_ahead)
{
    const uint16_t lies[] = { QUEUE_SIZE + 1, 0x7fff, 0x8000, 0xffff };

    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        struct guest g;

        guest_init(&g);
        driver_set_avail_idx(&g.d, 0, lies[i]);
        driver_kick(&g.d, 0);
        ck_assert(driver_broken(&g.d));
        guest_finish(&g);
    }
}
END_TEST

START_TEST(more_requests_in_flight_than_entries)
{
    struct guest g;

    guest_init(&g);
    g.keeper.keep = true;
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        guest_send(&g, 0);
    ck_assert(!driver_broken(&g.d));
    ck_assert_uint_eq(g.keeper.count, QUEUE_SIZE);
    guest_send(&g, 0); /* the ninth of eight */
    ck_assert(driver_broken(&g.d));
    ck_assert_uint_eq(g.keeper.count, QUEUE_SIZE);

    /* Requests in flight may still be pushed: the driver does not see them. */
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        virtq_push(virtio_virtq(&g.keeper.virtio, 0), &g.keeper.chains[i], 1);
    virtq_flush(virtio_virtq(&g.keeper.virtio, 0));
    ck_assert_uint_eq(g.d.interrupts, 0);
    guest_finish(&g);
}
END_TEST

START_TEST(a_chain_is_split_by_direction)
{
    struct guest g;
    char out[16] = "";

    guest_init(&g);
    g.keeper.keep = true;
    memcpy(driver_ram(&g.d, B), "abcdefgh", 8);
    for (unsigned i = 0; i < QUEUE_SIZE; i++) /* three readable, five writable, 1..8 bytes */
        driver_describe(&g.d, 0, i, B + 16 * i, i + 1,
                        (uint16_t)((i < 3 ? 0 : W) | (i + 1 < QUEUE_SIZE ? N : 0)),
                        (uint16_t)(i + 1));
    guest_send(&g, 0);
    ck_assert(!driver_broken(&g.d));
    ck_assert_uint_eq(g.keeper.count, 1);
    ck_assert_uint_eq(g.keeper.chains[0].readable.length, 1 + 2 + 3);
    ck_assert_uint_eq(g.keeper.chains[0].writable.length, 4 + 5 + 6 + 7 + 8);
    ck_assert(sg_read(&g.keeper.chains[0].readable, out, 1));
    ck_assert_str_eq(out, "a");
    ck_assert(sg_write(&g.keeper.chains[0].writable, "written", 8));
    ck_assert_mem_eq(driver_ram(&g.d, B + 16 * 3), "writ", 4);
    ck_assert_mem_eq(driver_ram(&g.d, B + 16 * 4), "ten", 4);
    guest_finish(&g);
}
END_TEST

START_TEST(an_indirect_chain_may_be_as_long_as_the_queue)
{
    struct guest g;

    guest_init(&g);
    g.keeper.keep = true;
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        driver_describe_at(&g.d, B, i, B + 0x1000, 1, i + 1 < QUEUE_SIZE ? N : 0,
                           (uint16_t)(i + 1));
    driver_describe(&g.d, 0, 0, B, 16 * QUEUE_SIZE, I | W, 0); /* 2.7.5.3.2: W is ignored here */
    guest_send(&g, 0);
    ck_assert(!driver_broken(&g.d));
    ck_assert_uint_eq(g.keeper.chains[0].readable.length, QUEUE_SIZE);
    guest_finish(&g);
}
END_TEST

START_TEST(buffers_may_come_before_an_indirect_table)
{
    struct guest g;

    guest_init(&g);
    g.keeper.keep = true;
    driver_describe(&g.d, 0, 0, B, 3, N, 1);
    driver_describe(&g.d, 0, 1, B + 0x1008, 32, I, 0);
    driver_describe_at(&g.d, B + 0x1008, 0, B, 4, N, 1);
    driver_describe_at(&g.d, B + 0x1008, 1, B, 5, W, 0);
    guest_send(&g, 0);
    ck_assert(!driver_broken(&g.d));
    ck_assert_uint_eq(g.keeper.chains[0].readable.length, 3 + 4);
    ck_assert_uint_eq(g.keeper.chains[0].writable.length, 5);
    guest_finish(&g);
}
END_TEST

START_TEST(indirect_only_if_negotiated)
{
    struct guest g;

    guest_init_with(&g, 0);
    driver_describe(&g.d, 0, 0, B, 16, I, 0);
    driver_describe_at(&g.d, B, 0, B, 1, 0, 0);
    guest_send(&g, 0);
    ck_assert(driver_broken(&g.d));
    guest_finish(&g);
}
END_TEST

START_TEST(rewind_gives_the_same_request_again)
{
    struct guest g;
    struct virtq_chain chain;
    struct virtq *q;

    guest_init(&g);
    q = virtio_virtq(&g.keeper.virtio, 0);
    driver_describe(&g.d, 0, 5, B, 1, 0, 0);
    driver_publish(&g.d, 0, 5);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(virtq_pop(q, &chain));
        ck_assert_uint_eq(chain.head, 5);
        ck_assert(!virtq_pop(q, &chain));
        virtq_rewind(q, 1);
    }
    guest_finish(&g);
}
END_TEST

START_TEST(any_number_of_pops_can_be_rewound)
{
    struct guest g;
    struct virtq_chain chain;
    struct virtq *q;

    guest_init(&g);
    q = virtio_virtq(&g.keeper.virtio, 0);
    for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
        driver_describe(&g.d, 0, i, B, i + 1u, 0, 0);
        driver_publish(&g.d, 0, i);
    }
    for (unsigned count = 0; count <= QUEUE_SIZE; count++) {
        for (unsigned i = 0; i < QUEUE_SIZE; i++) {
            ck_assert(virtq_pop(q, &chain));
            ck_assert_uint_eq(chain.head, i);
            ck_assert_uint_eq(chain.readable.length, i + 1);
        }
        virtq_rewind(q, count);
        ck_assert_uint_eq(virtq_waiting(q), count);
        for (unsigned i = QUEUE_SIZE - count; i < QUEUE_SIZE; i++) {
            ck_assert(virtq_pop(q, &chain));
            ck_assert_uint_eq(chain.head, i);
        }
        virtq_rewind(q, QUEUE_SIZE);
    }
    ck_assert(virtq_pop(q, &chain));
    virtq_break(q, "by the test");
    virtq_rewind(q, 1); /* no effect on a broken queue */
    ck_assert(!virtq_pop(q, &chain));
    guest_finish(&g);
}
END_TEST

START_TEST(a_paused_queue_is_empty_and_does_not_touch_memory)
{
    static uint8_t before[0x10000];
    struct guest g;
    struct virtq_chain chain;
    struct virtq *q;

    guest_init_with(&g, 1ull << VIRTIO_RING_F_EVENT_IDX);
    q = virtio_virtq(&g.keeper.virtio, 0);
    driver_describe(&g.d, 0, 3, B, 1, W, 0);
    driver_publish(&g.d, 0, 3);
    ck_assert(virtq_pop(q, &chain));
    virtq_push(q, &chain, 1);
    virtq_pause(q); /* flushes */
    ck_assert_uint_eq(g.d.interrupts, 1);
    ck_assert(driver_wait(&g.d, 0, NULL, NULL));

    driver_publish(&g.d, 0, 3);
    memcpy(before, driver_ram(&g.d, 0x10000), sizeof(before));
    ck_assert(!virtq_pop(q, &chain));
    ck_assert_uint_eq(virtq_waiting(q), 0);
    ck_assert(virtq_enable_notification(q));
    virtq_disable_notification(q);
    virtq_flush(q);
    ck_assert_mem_eq(driver_ram(&g.d, 0x10000), before, sizeof(before));
    ck_assert_uint_eq(g.d.interrupts, 1);

    virtq_resume(q);
    ck_assert_uint_eq(virtq_waiting(q), 1);
    ck_assert(!virtq_enable_notification(q));
    ck_assert(virtq_pop(q, &chain));
    ck_assert_uint_eq(chain.head, 3);
    virtq_rewind(q, 1);
    guest_finish(&g);
}
END_TEST

START_TEST(a_queue_continues_at_its_position)
{
    struct virtq_position position;
    struct guest g;
    struct virtq *q;

    guest_init(&g);
    q = virtio_virtq(&g.keeper.virtio, 0);
    driver_describe(&g.d, 0, 0, B, 1, W, 0);
    for (unsigned i = 0; i < QUEUE_SIZE + 3; i++)
        guest_send(&g, 0);
    virtq_pause(q);
    position = virtq_position(q);
    ck_assert_uint_eq(position.next_avail, QUEUE_SIZE + 3);
    ck_assert_uint_eq(position.next_used, QUEUE_SIZE + 3);
    ck_assert_int_eq(virtq_start(q, &g.keeper.virtio.queues[0].layout), 0);
    virtq_set_position(q, position);
    guest_send(&g, 0);
    for (unsigned i = 0; i < QUEUE_SIZE + 4; i++)
        ck_assert(driver_wait(&g.d, 0, NULL, NULL));
    ck_assert_uint_eq(g.d.interrupts, QUEUE_SIZE + 4);
    guest_finish(&g);
}
END_TEST

START_TEST(disabled_notifications_are_not_sent)
{
    struct guest g;
    struct virtq *q;

    guest_init_with(&g, BIT(VIRTIO_RING_F_EVENT_IDX));
    q = virtio_virtq(&g.keeper.virtio, 0);
    g.keeper.keep = true;
    guest_send(&g, 0);
    ck_assert_uint_eq(g.keeper.count, 1);

    virtq_disable_notification(q);
    driver_publish(&g.d, 0, 0);
    driver_kick_if_asked(&g.d, 0);
    ck_assert_uint_eq(g.keeper.count, 1);
    ck_assert(!virtq_enable_notification(q));
    keeper_kick(&g.keeper.virtio, 0);
    driver_publish(&g.d, 0, 0);
    driver_kick_if_asked(&g.d, 0);
    ck_assert_uint_eq(g.keeper.count, 3);
    guest_finish(&g);
}
END_TEST

/* The driver wants an interrupt for the used entry `event`, near the wrap at 2^16. */
START_TEST(event_index_across_the_wrap)
{
    struct guest g;
    uint64_t used_event = 0x10000 + 0x4000 + 4 + 2 * QUEUE_SIZE;

    guest_init_with(&g, BIT(VIRTIO_RING_F_EVENT_IDX));
    driver_describe(&g.d, 0, 0, B, 1, 0, 0);
    for (uint32_t n = 0; n < 0x10000 + 100; n++) {
        unsigned before = g.d.interrupts;
        bool wanted = n % 3 == 0;

        le16_store(driver_ram(&g.d, used_event), (uint16_t)(wanted ? n : n + 1));
        driver_publish(&g.d, 0, 0);
        keeper_kick(&g.keeper.virtio, 0);
        if (g.d.interrupts - before != wanted)
            ck_abort_msg("interrupt %u: wanted %d", n, wanted);
    }
    ck_assert(!driver_broken(&g.d));
    guest_finish(&g);
}
END_TEST

START_TEST(no_interrupt_if_the_driver_disables_it)
{
    struct guest g;
    uint64_t avail_flags = 0x10000 + 0x4000;

    guest_init(&g);
    driver_describe(&g.d, 0, 0, B, 1, 0, 0);
    guest_send(&g, 0);
    ck_assert_uint_eq(g.d.interrupts, 1);
    le16_store(driver_ram(&g.d, avail_flags), VRING_AVAIL_F_NO_INTERRUPT);
    guest_send(&g, 0);
    ck_assert_uint_eq(g.d.interrupts, 1);
    guest_finish(&g);
}
END_TEST

START_TEST(start_refuses_what_the_specification_forbids)
{
    const struct virtq_owner_ops ops = { 0 };
    const struct {
        struct virtq_layout layout;
        int error;
    } cases[] = {
        { { 0, 0x1000, 0x2000, 0, false, false }, -EINVAL },
        { { 0, 0x1000, 0x2000, 3, false, false }, -EINVAL },
        { { 0, 0x1000, 0x2000, 512, false, false }, -EINVAL },
        { { 8, 0x1000, 0x2000, 8, false, false }, -EINVAL },
        { { 0, 0x1001, 0x2000, 8, false, false }, -EINVAL },
        { { 0, 0x1000, 0x2002, 8, false, false }, -EINVAL },
        { { DRIVER_RAM, 0x1000, 0x2000, 8, false, false }, -EFAULT },
        { { 0, DRIVER_RAM - 8, 0x2000, 8, false, false }, -EFAULT },
        { { 0, 0x1000, DRIVER_RAM - 68, 8, false, false }, -EFAULT },
        { { UINT64_MAX - 15, 0x1000, 0x2000, 8, false, false }, -EFAULT },
        { { 0, 0x1000, 0x2000, 8, false, false }, 0 },
        { { DRIVER_RAM - 128, DRIVER_RAM - 22, DRIVER_RAM - 72, 8, false, false }, 0 },
    };
    struct guest_memory *mem = guest_memory_create();
    struct virtq *q = virtq_create(mem, &ops, NULL);

    guest_memory_add(mem, 0, DRIVER_RAM, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert_int_eq(virtq_start(q, &cases[i].layout), cases[i].error);
        ck_assert_int_eq(virtq_started(q), cases[i].error == 0);
        virtq_stop(q);
    }
    virtq_destroy(q);
    guest_memory_destroy(mem);
}
END_TEST

struct racer {
    struct driver *d;
    bool stop; /* atomic */
};

/* Flips descriptor 0 between a good buffer and ones outside RAM, as fast as it can. */
static void *racer_run(void *arg)
{
    struct racer *racer = arg;
    le64 *addr = driver_ram(racer->d, 0x10000);
    le32 *len = driver_ram(racer->d, 0x10008);

    while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
        le32_store(len, UINT32_MAX);
        le64_store(addr, UINT64_MAX - 64);
        le64_store(addr, B);
        le32_store(len, 16);
    }
    return NULL;
}

START_TEST(fields_changed_while_they_are_read)
{
    struct guest g;
    struct racer racer = { &g.d, false };
    pthread_t thread;
    unsigned good = 0, bad = 0;

    guest_init(&g);
    g.keeper.keep = false;
    driver_describe(&g.d, 0, 0, B, 16, W, 0);
    pthread_create(&thread, NULL, racer_run, &racer);
    for (unsigned i = 0; i < 20000 || good == 0 || bad == 0; i++) { /* until both were seen */
        struct virtq *q = virtio_virtq(&g.keeper.virtio, 0);
        struct virtq_chain *chain = &g.keeper.chains[0];

        driver_publish(&g.d, 0, 0);
        if (virtq_pop(q, chain)) { /* whichever version was read, it lies in RAM */
            ck_assert_uint_eq(chain->writable.length, 16);
            ck_assert(sg_zero(&chain->writable, 16));
            virtq_push(q, chain, 16);
            good++;
        } else {
            virtio_reset(&g.keeper.virtio);
            le16_store(driver_ram(&g.d, 0x14002), 0);
            ck_assert(driver_start(&g.d, &g.keeper.virtio, 0));
            bad++;
        }
    }
    __atomic_store_n(&racer.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    guest_finish(&g);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtq");
    TCase *tcase = tcase_create("virtq");

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_bad_chain_breaks_the_queue, 0, ARRAY_SIZE(bad_chains));
    tcase_add_test(tcase, head_out_of_range);
    tcase_add_test(tcase, avail_index_more_than_queue_size_ahead);
    tcase_add_test(tcase, more_requests_in_flight_than_entries);
    tcase_add_test(tcase, a_chain_is_split_by_direction);
    tcase_add_test(tcase, an_indirect_chain_may_be_as_long_as_the_queue);
    tcase_add_test(tcase, buffers_may_come_before_an_indirect_table);
    tcase_add_test(tcase, indirect_only_if_negotiated);
    tcase_add_test(tcase, rewind_gives_the_same_request_again);
    tcase_add_test(tcase, any_number_of_pops_can_be_rewound);
    tcase_add_test(tcase, a_paused_queue_is_empty_and_does_not_touch_memory);
    tcase_add_test(tcase, a_queue_continues_at_its_position);
    tcase_add_test(tcase, disabled_notifications_are_not_sent);
    tcase_add_test(tcase, event_index_across_the_wrap);
    tcase_add_test(tcase, no_interrupt_if_the_driver_disables_it);
    tcase_add_test(tcase, start_refuses_what_the_specification_forbids);
    tcase_add_test(tcase, fields_changed_while_they_are_read);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
