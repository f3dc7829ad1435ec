/* SPDX-License-Identifier: MIT */
#include "devices/virtio/virtio.h"

#include <linux/virtio_config.h>
#include <pthread.h>
#include <string.h>

#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

/* What happened to a device of two queues. Only its loop writes here, so nothing is locked. */
struct witness {
    struct virtio_device virtio;
    struct driver d;
    bool running; /* between start and stop */
    bool astray;  /* called when it must not be */
    unsigned starts, stops, destroyed, kicks[2];
};

static struct witness *witness_of(struct virtio_device *v)
{
    return container_of(v, struct witness, virtio);
}

static void witness_start(struct virtio_device *v)
{
    struct witness *w = witness_of(v);

    w->astray |= w->running;
    w->running = true;
    w->starts++;
}

static void witness_stop(struct virtio_device *v)
{
    struct witness *w = witness_of(v);

    w->astray |= !w->running;
    w->running = false;
    w->stops++;
}

static void witness_kick(struct virtio_device *v, unsigned queue)
{
    struct witness *w = witness_of(v);

    w->astray |= !w->running || !virtq_started(virtio_virtq(v, queue));
    w->kicks[queue]++;
}

static void witness_destroy(struct virtio_device *v)
{
    struct witness *w = witness_of(v);

    w->astray |= w->running;
    w->destroyed++;
}

static const struct virtio_ops witness_ops = {
    .type = 99,
    .queue_size = 16,
    .start = witness_start,
    .stop = witness_stop,
    .kick = witness_kick,
    .destroy = witness_destroy,
};

static void witness_init(struct witness *w)
{
    memset(w, 0, sizeof(*w));
    driver_init(&w->d);
    ck_assert_int_eq(
        virtio_init(&w->virtio, &witness_ops, virtio_no_state, 2, "witness0", w->d.mem, w->d.loop),
        0);
}

static void witness_finish(struct witness *w)
{
    driver_finish(&w->d);
    ck_assert(!w->astray);
    ck_assert_uint_eq(w->destroyed, 1);
    ck_assert_uint_eq(w->starts, w->stops);
}

static void set_status(struct witness *w, unsigned status)
{
    virtio_set_status(&w->virtio, virtio_status(&w->virtio) | status);
}

/* Queue 0's rings, with descriptors at `desc`. */
static void describe(struct witness *w, uint64_t desc)
{
    driver_set_address(&w->virtio, 0, VIRTIO_RING_DESC, desc);
    driver_set_address(&w->virtio, 0, VIRTIO_RING_AVAIL, 0x2000);
    driver_set_address(&w->virtio, 0, VIRTIO_RING_USED, 0x3000);
    virtio_set_queue_size(&w->virtio, 0, 16);
}

/* May the driver describe queue 0? Finds out by doing it. */
static bool describable(struct witness *w)
{
    uint64_t before = w->virtio.queues[0].layout.desc;
    bool can;

    describe(w, before + 16);
    can = w->virtio.queues[0].layout.desc != before;
    describe(w, before);
    return can;
}

/* As far as FEATURES_OK, by hand: queue 0 is left to the test, queue 1 is never described. */
static void negotiate(struct witness *w)
{
    ck_assert(driver_start(&w->d, &w->virtio, 0)); /* gives it a transport */
    virtio_reset(&w->virtio);
    set_status(w, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    virtio_set_features(&w->virtio, BIT(VIRTIO_F_VERSION_1));
    set_status(w, VIRTIO_CONFIG_S_FEATURES_OK);
    describe(w, 0x1000);
    w->kicks[0] = w->kicks[1] = 0;
}

START_TEST(a_queue_may_be_taken_back_until_it_is_live)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    virtio_set_queue_ready(&w.virtio, 0, true);
    ck_assert(!describable(&w));
    virtio_set_queue_ready(&w.virtio, 0, false);
    ck_assert(describable(&w));
    virtio_set_queue_ready(&w.virtio, 0, true);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK);
    virtio_set_queue_ready(&w.virtio, 0, false); /* now it is */
    ck_assert(w.virtio.queues[0].ready);
    ck_assert(!describable(&w));
    driver_kick(&w.d, 0);
    ck_assert_uint_eq(w.kicks[0], 2); /* unasked at the start, and this one */
    witness_finish(&w);
}
END_TEST

START_TEST(a_kick_of_what_is_no_live_queue)
{
    struct witness w;

    witness_init(&w);
    negotiate(&w);
    virtio_set_queue_ready(&w.virtio, 0, true);
    set_status(&w, VIRTIO_CONFIG_S_DRIVER_OK);
    driver_kick(&w.d, 1); /* exists, but was left out */
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

START_TEST(a_broken_queue_is_told_once_and_mended_by_reset)
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
        ck_assert_uint_eq(w.kicks[0], 1); /* the other queue lives */
        ck_assert_uint_eq(w.kicks[1], 0);
        virtio_set_status(&w.virtio, 0);
        ck_assert_uint_eq(virtio_status(&w.virtio), 0);
    }
    witness_finish(&w);
}
END_TEST

START_TEST(a_configuration_change_is_told_to_a_running_driver_only)
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

START_TEST(status_bits_that_are_the_devices_own)
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
    bool stop; /* atomic */
};

static void *kicker_run(void *arg)
{
    struct kicker *kicker = arg;

    for (unsigned i = 0; !__atomic_load_n(&kicker->stop, __ATOMIC_RELAXED); i++)
        virtio_kick(kicker->v, i % 2);
    return NULL;
}

/* One vCPU rings the bell all the time while another resets and starts the device. */
START_TEST(kicks_race_with_resets)
{
    struct witness w;
    struct kicker kicker = { &w.virtio, false };
    pthread_t thread;

    witness_init(&w);
    ck_assert_int_eq(loop_start(w.d.loop, "witness0"), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, kicker_run, &kicker), 0);
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

START_TEST(nothing_may_be_destroyed)
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
    tcase_add_test(tcase, a_queue_may_be_taken_back_until_it_is_live);
    tcase_add_test(tcase, a_kick_of_what_is_no_live_queue);
    tcase_add_test(tcase, a_kick_between_ready_and_driver_ok_is_not_lost);
    tcase_add_test(tcase, a_broken_queue_is_told_once_and_mended_by_reset);
    tcase_add_test(tcase, a_configuration_change_is_told_to_a_running_driver_only);
    tcase_add_test(tcase, status_bits_that_are_the_devices_own);
    tcase_add_test(tcase, kicks_race_with_resets);
    tcase_add_test(tcase, nothing_may_be_destroyed);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
