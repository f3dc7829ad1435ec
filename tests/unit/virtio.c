/* SPDX-License-Identifier: MIT */
#include "devices/virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

/* A device with two queues that records its calls. Only its loop writes, so there are no locks. */
struct witness {
    struct virtio_device virtio;
    struct driver d;
    bool running; /* between start and stop */
    bool paused;  /* between pause and resume */
    bool unpausable;
    bool misused; /* was called when it must not be */
    unsigned starts, stops, destroyed, kicks[2];
    unsigned pauses, resumes;
    struct virtq_chain chain;
};

static struct witness *witness_of(struct virtio_device *v)
{
    return container_of(v, struct witness, virtio);
}

static void witness_start(struct virtio_device *v)
{
    struct witness *w = witness_of(v);

    w->misused |= w->running;
    w->running = true;
    w->starts++;
}

static void witness_stop(struct virtio_device *v)
{
    struct witness *w = witness_of(v);

    w->misused |= !w->running;
    w->running = w->paused = false;
    w->stops++;
}

static bool witness_pause(struct virtio_device *v, uint64_t deadline_ns)
{
    struct witness *w = witness_of(v);

    w->misused |= !w->running || w->paused;
    w->paused = !w->unpausable;
    w->pauses++;
    return w->paused;
}

/* Also the first call after a state was loaded: there is no start() then. */
static void witness_resume(struct virtio_device *v)
{
    struct witness *w = witness_of(v);

    w->starts += !w->running;
    w->running = true;
    w->paused = false;
    w->resumes++;
}

static void witness_kick(struct virtio_device *v, unsigned queue)
{
    struct witness *w = witness_of(v);

    struct virtq *q = virtio_virtq(v, queue);

    w->misused |= !w->running || w->paused || !virtq_started(q);
    w->kicks[queue]++;
    while (virtq_pop(q, &w->chain))
        virtq_push(q, &w->chain, 7);
    virtq_flush(q);
    virtq_enable_notification(q);
}

static void witness_destroy(struct virtio_device *v)
{
    struct witness *w = witness_of(v);

    w->misused |= w->running;
    w->destroyed++;
}

static const struct virtio_ops witness_ops = {
    .type = 99,
    .queue_size = 16,
    .start = witness_start,
    .stop = witness_stop,
    .pause = witness_pause,
    .resume = witness_resume,
    .kick = witness_kick,
    .destroy = witness_destroy,
};

static void witness_create(struct witness *w, const struct driver *d)
{
    ck_assert_int_eq(
        virtio_init(&w->virtio, &witness_ops, virtio_no_state, 2, "witness0", d->mem, d->loop), 0);
}

static void witness_init(struct witness *w)
{
    memset(w, 0, sizeof(*w));
    driver_init(&w->d);
    witness_create(w, &w->d);
}

static void witness_finish(struct witness *w)
{
    driver_finish(&w->d);
    ck_assert(!w->misused);
    ck_assert_uint_eq(w->destroyed, 1);
    ck_assert_uint_eq(w->starts, w->stops);
}

static void set_status(struct witness *w, unsigned status)
{
    virtio_set_status(&w->virtio, virtio_status(&w->virtio) | status);
}

/* Sets up queue 0 with its descriptors at `desc`. */
static void describe(struct witness *w, uint64_t desc)
{
    driver_set_address(&w->virtio, 0, VIRTIO_RING_DESC, desc);
    driver_set_address(&w->virtio, 0, VIRTIO_RING_AVAIL, 0x2000);
    driver_set_address(&w->virtio, 0, VIRTIO_RING_USED, 0x3000);
    virtio_set_queue_size(&w->virtio, 0, 16);
}

/* Tries to set queue 0 up; true if that had an effect. */
static bool queue_is_writable(struct witness *w)
{
    uint64_t before = w->virtio.queues[0].layout.desc;
    bool can;

    describe(w, before + 16);
    can = w->virtio.queues[0].layout.desc != before;
    describe(w, before);
    return can;
}

/* Negotiates up to FEATURES_OK. The test sets queue 0 up; queue 1 is never set up. */
static void negotiate(struct witness *w)
{
    ck_assert(driver_start(&w->d, &w->virtio, 0)); /* sets the transport */
    virtio_reset(&w->virtio);
    set_status(w, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    virtio_set_features(&w->virtio, BIT(VIRTIO_F_VERSION_1));
    set_status(w, VIRTIO_CONFIG_S_FEATURES_OK);
    describe(w, 0x1000);
    w->kicks[0] = w->kicks[1] = 0;
}

START_TEST(a_queue_can_be_disabled_until_it_is_live)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    virtio_set_queue_ready(&w.virtio, 0, true);
    ck_assert(!queue_is_writable(&w));
    virtio_set_queue_ready(&w.virtio, 0, false);
    ck_assert(queue_is_writable(&w));
    virtio_set_queue_ready(&w.virtio, 0, true);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK);
    virtio_set_queue_ready(&w.virtio, 0, false); /* no effect on a live queue */
    ck_assert(w.virtio.queues[0].ready);
    ck_assert(!queue_is_writable(&w));
    driver_kick(&w.d, 0);
    ck_assert_uint_eq(w.kicks[0], 2); /* the one at start, and this one */
    witness_finish(&w);
}
END_TEST

START_TEST(a_kick_of_a_queue_that_is_not_live)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    virtio_set_queue_ready(&w.virtio, 0, true);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK);
    driver_kick(&w.d, 1); /* exists, but was not set up */
    virtio_kick(&w.virtio, 2);
    virtio_kick(&w.virtio, UINT32_MAX);
    virtio_set_queue_ready(&w.virtio, UINT32_MAX, true);
    virtio_set_queue_ready(&w.virtio, UINT32_MAX, false);
    loop_turn(w.d.loop, 0);
    ck_assert_uint_eq(w.kicks[0], 1);
    ck_assert_uint_eq(w.kicks[1], 0);
    witness_finish(&w);
}
END_TEST

START_TEST(a_kick_between_ready_and_driver_ok_is_not_lost)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    virtio_set_queue_ready(&w.virtio, 0, true);
    driver_kick(&w.d, 0);
    ck_assert_uint_eq(w.kicks[0], 0);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK);
    ck_assert_uint_ge(w.kicks[0], 1);
    witness_finish(&w);
}
END_TEST

START_TEST(a_broken_queue_is_reported_once_until_a_reset)
{
    struct witness w;

    witness_init(&w);
    for (unsigned round = 1; round <= 3; round++) {
        ck_assert(driver_start(&w.d, &w.virtio, 0));
        ck_assert(!driver_broken(&w.d));
        virtq_break(virtio_virtq(&w.virtio, 1), "by the test");
        virtq_break(virtio_virtq(&w.virtio, 1), "by the test, again");
        ck_assert(driver_broken(&w.d));
        ck_assert_uint_eq(w.d.config_changes, round);
        w.kicks[0] = w.kicks[1] = 0;
        driver_kick(&w.d, 0);
        driver_kick(&w.d, 1);
        ck_assert_uint_eq(w.kicks[0], 1); /* the other queue still works */
        ck_assert_uint_eq(w.kicks[1], 0);
        virtio_set_status(&w.virtio, 0);
        ck_assert_uint_eq(virtio_status(&w.virtio), 0);
    }
    witness_finish(&w);
}
END_TEST

START_TEST(a_configuration_change_interrupts_a_running_driver_only)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    virtio_config_changed(&w.virtio);
    ck_assert_uint_eq(w.d.config_changes, 0);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK);
    virtio_config_changed(&w.virtio);
    ck_assert_uint_eq(w.d.config_changes, 1);
    virtio_reset(&w.virtio);
    virtio_config_changed(&w.virtio);
    ck_assert_uint_eq(w.d.config_changes, 1);
    witness_finish(&w);
}
END_TEST

START_TEST(status_bits_only_the_device_sets)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    set_status(&w, NEEDS_RESET | VIRTIO_CONFIG_S_DRIVER_OK | 0xffffff20);
    ck_assert_uint_eq(virtio_status(&w.virtio),
                      VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                          VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK); /* once is enough */
    witness_finish(&w);
}
END_TEST

struct kicker {
    struct virtio_device *v;
    bool running, stop; /* atomic */
};

static void *kicker_run(void *arg)
{
    struct kicker *kicker = arg;

    for (unsigned i = 0; !__atomic_load_n(&kicker->stop, __ATOMIC_RELAXED); i++) {
        virtio_kick(kicker->v, i % 2);
        __atomic_store_n(&kicker->running, true, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* One vCPU kicks all the time while another resets and starts the device. */
START_TEST(kicks_race_with_resets)
{
    struct witness w;
    struct kicker kicker = { .v = &w.virtio };
    pthread_t thread;

    witness_init(&w);
    ck_assert_int_eq(loop_start(w.d.loop, "witness0"), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, kicker_run, &kicker), 0);
    while (!__atomic_load_n(&kicker.running, __ATOMIC_RELAXED))
        usleep(100);
    for (unsigned round = 0; round < 200; round++) {
        ck_assert(driver_start(&w.d, &w.virtio, 0));
        virtio_set_status(&w.virtio, 0);
    }
    ck_assert(driver_start(&w.d, &w.virtio, 0));
    __atomic_store_n(&kicker.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    witness_finish(&w);
    ck_assert_uint_eq(w.starts, 201);
}
END_TEST

static int pause_device(struct virtio_device *v)
{
    return virtio_pause(v, clock_now_ns() + 1000000000);
}

/* Publishes a writable buffer of 16 bytes. */
static void publish(struct driver *d, unsigned queue)
{
    driver_describe(d, queue, 0, DRIVER_BUFFERS, 16, DRIVER_WRITE, 0);
    driver_publish(d, queue, 0);
}

/* The queue's next used buffer must be there at once. */
static void expect_used(struct driver *d, unsigned queue)
{
    uint32_t written;

    ck_assert(driver_wait(d, queue, NULL, &written));
    ck_assert_uint_eq(written, 7);
}

START_TEST(kicks_while_paused_are_served_after_resume)
{
    struct witness w;

    witness_init(&w);
    ck_assert(driver_start(&w.d, &w.virtio, 0));
    ck_assert_int_eq(pause_device(&w.virtio), 0);
    w.kicks[0] = w.kicks[1] = 0;
    publish(&w.d, 0);
    driver_kick(&w.d, 0);
    publish(&w.d, 1); /* without a kick, which may have been read before the pause */
    loop_turn(w.d.loop, 0);
    ck_assert_uint_eq(w.kicks[0] + w.kicks[1], 0);
    ck_assert_uint_eq(w.d.interrupts, 0);
    virtio_resume(&w.virtio);
    expect_used(&w.d, 0);
    expect_used(&w.d, 1);
    publish(&w.d, 0);
    driver_kick(&w.d, 0);
    expect_used(&w.d, 0);
    ck_assert_uint_eq(w.pauses, 1);
    ck_assert_uint_eq(w.resumes, 1);
    witness_finish(&w);
}
END_TEST

START_TEST(a_device_that_cannot_pause_continues)
{
    struct witness w;

    witness_init(&w);
    ck_assert(driver_start(&w.d, &w.virtio, 0));
    w.unpausable = true;
    publish(&w.d, 0);
    virtio_kick(&w.virtio, 0);
    ck_assert_int_eq(pause_device(&w.virtio), -ETIMEDOUT);
    expect_used(&w.d, 0);
    publish(&w.d, 0);
    driver_kick(&w.d, 0);
    expect_used(&w.d, 0);
    ck_assert_uint_eq(w.resumes, 0);
    w.unpausable = false;
    ck_assert_int_eq(pause_device(&w.virtio), 0);
    virtio_resume(&w.virtio);
    witness_finish(&w);
}
END_TEST

START_TEST(a_device_without_a_driver_pauses_without_its_operation)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    w.unpausable = true;
    ck_assert_int_eq(pause_device(&w.virtio), 0);
    virtio_resume(&w.virtio);
    ck_assert_uint_eq(w.pauses + w.resumes, 0);
    virtio_set_queue_ready(&w.virtio, 0, true);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK);
    publish(&w.d, 0);
    driver_kick(&w.d, 0);
    ck_assert_uint_ge(w.kicks[0], 1);
    witness_finish(&w);
}
END_TEST

START_TEST(a_configuration_change_while_paused_interrupts_after_resume)
{
    struct witness w;

    witness_init(&w);
    ck_assert(driver_start(&w.d, &w.virtio, 0));
    ck_assert_int_eq(pause_device(&w.virtio), 0);
    for (unsigned i = 0; i < 3; i++)
        virtio_config_changed(&w.virtio);
    ck_assert_uint_eq(w.d.config_changes, 0);
    virtio_resume(&w.virtio);
    ck_assert_uint_eq(w.d.config_changes, 1);
    ck_assert_int_eq(pause_device(&w.virtio), 0);
    virtio_resume(&w.virtio);
    ck_assert_uint_eq(w.d.config_changes, 1);
    witness_finish(&w);
}
END_TEST

START_TEST(reset_while_paused)
{
    struct witness w;

    witness_init(&w);
    ck_assert(driver_start(&w.d, &w.virtio, 0));
    ck_assert_int_eq(pause_device(&w.virtio), 0);
    virtio_config_changed(&w.virtio);
    virtio_reset(&w.virtio);
    ck_assert_uint_eq(w.stops, 1);
    virtio_resume(&w.virtio);
    memset(driver_ram(&w.d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&w.d, &w.virtio, 0));
    publish(&w.d, 1);
    driver_kick(&w.d, 1);
    expect_used(&w.d, 1);
    virtio_resume(&w.virtio); /* no effect: it is not paused */
    publish(&w.d, 1);
    driver_kick(&w.d, 1);
    expect_used(&w.d, 1);
    ck_assert_uint_eq(w.resumes, 0);
    ck_assert_uint_eq(w.d.config_changes, 0);
    witness_finish(&w);
}
END_TEST

static void walk(struct virtio_device *v, struct state *s)
{
    state_section(s, "witness0", 1);
    virtio_state(v, s);
    state_end_section(s);
}

static void save(struct virtio_device *v, struct state *ret)
{
    state_begin_save(ret);
    walk(v, ret);
    ck_assert_int_eq(ret->error, 0);
}

static int load(struct virtio_device *v, const struct state *saved)
{
    struct state in;

    state_begin_load(&in, saved->bytes, saved->at);
    walk(v, &in);
    return state_finish(&in);
}

START_TEST(a_new_device_continues_from_the_state)
{
    struct witness old, new = { 0 };
    struct state saved, again;

    witness_init(&old);
    ck_assert(driver_start(&old.d, &old.virtio, _i ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0));
    for (unsigned i = 0; i < 21; i++) { /* more than the queue has entries */
        publish(&old.d, 0);
        driver_kick_if_asked(&old.d, 0);
        expect_used(&old.d, 0);
    }
    ck_assert_int_eq(pause_device(&old.virtio), 0);
    save(&old.virtio, &saved);

    witness_create(&new, &old.d);
    ck_assert_int_eq(pause_device(&new.virtio), 0);
    ck_assert_int_eq(load(&new.virtio, &saved), 0);
    save(&new.virtio, &again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);

    driver_find(&old.d, &new.virtio);
    publish(&old.d, 0); /* without a kick */
    virtio_resume(&new.virtio);
    ck_assert_uint_eq(new.resumes, 1);
    ck_assert_uint_eq(new.virtio.features, old.virtio.features);
    expect_used(&old.d, 0);
    for (unsigned i = 0; i < 40; i++) {
        publish(&old.d, i % 2);
        driver_kick_if_asked(&old.d, i % 2);
        expect_used(&old.d, i % 2);
    }
    ck_assert(!driver_broken(&old.d));
    ck_assert(!new.misused);
    state_finish(&saved);
    state_finish(&again);
    virtio_destroy(&old.virtio);
    driver_finish(&old.d);
    ck_assert_uint_eq(new.stops, 1);
}
END_TEST

START_TEST(queues_that_are_not_live_are_saved_and_loaded)
{
    struct witness old, new = { 0 };
    struct state saved, again;

    witness_init(&old);
    if (_i == 0) {
        negotiate(&old);
        virtio_set_queue_ready(&old.virtio, 0, true);
    } else {
        ck_assert(driver_start(&old.d, &old.virtio, 0));
        publish(&old.d, 0);
        driver_kick(&old.d, 0);
        virtq_break(virtio_virtq(&old.virtio, 0), "by the test");
    }
    ck_assert_int_eq(pause_device(&old.virtio), 0);
    save(&old.virtio, &saved);
    witness_create(&new, &old.d);
    ck_assert_int_eq(load(&new.virtio, &saved), 0);
    ck_assert_uint_eq(virtio_status(&new.virtio), virtio_status(&old.virtio));
    save(&new.virtio, &again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);

    driver_find(&old.d, &new.virtio);
    virtio_resume(&new.virtio);
    if (_i == 0)
        set_status(&new, VIRTIO_CONFIG_S_DRIVER_OK);
    ck_assert_uint_eq(new.kicks[0], _i == 0); /* a broken queue stays broken */
    state_finish(&saved);
    state_finish(&again);
    virtio_destroy(&old.virtio);
    driver_finish(&old.d);
}
END_TEST

/* Corruptions of a device before it is saved; loading that state must fail. */
static void offer_more(struct virtio_device *v)
{
    v->features |= 1;
}

static void forget_version_1(struct virtio_device *v)
{
    v->features = 0;
}

static void forget_features_ok(struct virtio_device *v)
{
    v->status &= ~(unsigned)VIRTIO_CONFIG_S_FEATURES_OK;
}

static void invent_status(struct virtio_device *v)
{
    v->status |= 0x20;
}

static void forget_driver_ok(struct virtio_device *v)
{
    v->status &= ~(unsigned)VIRTIO_CONFIG_S_DRIVER_OK;
}

static void move_out_of_ram(struct virtio_device *v)
{
    v->queues[1].layout.used = DRIVER_RAM;
}

static void enlarge_queue(struct virtio_device *v)
{
    v->queues[0].layout.size = 32;
}

static void enlarge_idle_queue(struct virtio_device *v)
{
    virtq_stop(v->queues[0].virtq);
    v->queues[0].ready = false;
    v->queues[0].layout.size = 32;
}

static void take_ready_back(struct virtio_device *v)
{
    v->queues[1].ready = false;
}

static void leave_in_flight(struct virtio_device *v)
{
    virtq_set_position(v->queues[0].virtq, (struct virtq_position){ 2, 1 });
}

static void (*const corruptions[])(struct virtio_device *v) = {
    offer_more,      forget_version_1, forget_features_ok, invent_status,   forget_driver_ok,
    move_out_of_ram, enlarge_queue,    enlarge_idle_queue, take_ready_back, leave_in_flight,
};

START_TEST(an_impossible_state_is_refused)
{
    struct witness old, new = { 0 };
    struct state saved;
    unsigned status;

    witness_init(&old);
    ck_assert(driver_start(&old.d, &old.virtio, 0));
    ck_assert_int_eq(pause_device(&old.virtio), 0);
    status = virtio_status(&old.virtio);
    corruptions[_i](&old.virtio);
    save(&old.virtio, &saved);
    old.virtio.status = status;
    witness_create(&new, &old.d);
    driver_find(&old.d, &new.virtio);
    ck_assert_int_eq(load(&new.virtio, &saved), -EINVAL);
    state_finish(&saved);
    new.running = true; /* a failed load may call stop() without start() */
    virtio_destroy(&old.virtio);
    driver_finish(&old.d);
}
END_TEST

START_TEST(destroying_null_has_no_effect)
{
    virtio_destroy(NULL);
    virtq_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio");
    TCase *tcase = tcase_create("virtio");

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, a_queue_can_be_disabled_until_it_is_live);
    tcase_add_test(tcase, a_kick_of_a_queue_that_is_not_live);
    tcase_add_test(tcase, a_kick_between_ready_and_driver_ok_is_not_lost);
    tcase_add_test(tcase, a_broken_queue_is_reported_once_until_a_reset);
    tcase_add_test(tcase, a_configuration_change_interrupts_a_running_driver_only);
    tcase_add_test(tcase, status_bits_only_the_device_sets);
    tcase_add_test(tcase, kicks_race_with_resets);
    tcase_add_test(tcase, kicks_while_paused_are_served_after_resume);
    tcase_add_test(tcase, a_device_that_cannot_pause_continues);
    tcase_add_test(tcase, a_device_without_a_driver_pauses_without_its_operation);
    tcase_add_test(tcase, a_configuration_change_while_paused_interrupts_after_resume);
    tcase_add_test(tcase, reset_while_paused);
    tcase_add_loop_test(tcase, a_new_device_continues_from_the_state, 0, 2);
    tcase_add_loop_test(tcase, queues_that_are_not_live_are_saved_and_loaded, 0, 2);
    tcase_add_loop_test(tcase, an_impossible_state_is_refused, 0, ARRAY_SIZE(corruptions));
    tcase_add_test(tcase, destroying_null_has_no_effect);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
