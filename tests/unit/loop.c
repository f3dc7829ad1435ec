/* SPDX-License-Identifier: MIT */
#include "vmm/core/loop.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"

struct counter {
    struct watch watch;
    struct loop *loop;
    unsigned ready;
    bool remove_itself;
    struct watch *remove_other;
    struct poller *poller;
};

static void counter_ready(struct watch *watch, short revents)
{
    struct counter *counter = container_of(watch, struct counter, watch);

    counter->ready++;
    if (counter->remove_itself)
        loop_remove(counter->loop, watch);
    if (counter->remove_other)
        loop_remove(counter->loop, counter->remove_other);
}

static struct counter counter(struct loop *loop, int fd)
{
    return (struct counter){ .watch = { .fd = fd, .events = POLLIN, .ready = counter_ready },
                             .loop = loop };
}

START_TEST(ready_is_called_until_the_watch_is_removed)
{
    struct loop *loop = loop_create();
    int fd = eventfd(1, 0);
    struct counter c = counter(loop, fd);

    loop_add(loop, &c.watch);
    loop_turn(loop, 0);
    loop_turn(loop, 0);
    ck_assert_uint_eq(c.ready, 2);
    c.remove_itself = true;
    loop_turn(loop, 0);
    loop_turn(loop, 0);
    ck_assert_uint_eq(c.ready, 3);
    loop_destroy(loop);
    close(fd);
}
END_TEST

START_TEST(a_watch_removed_in_the_same_iteration_is_not_called)
{
    struct loop *loop = loop_create();
    int fd = eventfd(1, 0);
    struct counter a = counter(loop, fd), b = counter(loop, fd);

    a.remove_other = &b.watch;
    b.remove_other = &a.watch;
    loop_add(loop, &a.watch);
    loop_add(loop, &b.watch);
    loop_turn(loop, 0);
    ck_assert_uint_eq(a.ready + b.ready, 1);
    loop_destroy(loop);
    close(fd);
}
END_TEST

static void nothing(void *arg)
{
}

static void add_one(void *arg)
{
    ++*(unsigned *)arg; /* not atomic: all calls run on one thread */
}

struct caller {
    struct loop *loop;
    unsigned *sum;
};

static void *call_often(void *arg)
{
    struct caller *caller = arg;

    for (unsigned i = 0; i < 1000; i++)
        loop_call(caller->loop, add_one, caller->sum);
    return NULL;
}

START_TEST(calls_from_many_threads_run_one_at_a_time)
{
    struct loop *loop = loop_create();
    pthread_t threads[4];
    unsigned sum = 0;
    struct caller caller = { loop, &sum };

    loop_call(loop, add_one, &sum); /* it has no thread yet: called directly */
    ck_assert_uint_eq(sum, 1);
    ck_assert_int_eq(loop_start(loop, "test"), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_create(&threads[i], NULL, call_often, &caller);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    loop_join(loop);
    ck_assert_uint_eq(sum, 1 + 4000);
    loop_call(loop, add_one, &sum); /* the loop belongs to this thread again */
    ck_assert_uint_eq(sum, 2 + 4000);
    loop_destroy(loop);
}
END_TEST

static void call_itself(void *arg)
{
    struct caller *caller = arg;

    loop_call(caller->loop, add_one, caller->sum);
}

START_TEST(a_call_from_the_loop_itself_does_not_wait)
{
    struct loop *loop = loop_create();
    unsigned sum = 0;
    struct caller caller = { loop, &sum };

    loop_start(loop, "test");
    loop_call(loop, call_itself, &caller);
    ck_assert_uint_eq(sum, 1);
    loop_destroy(loop);
}
END_TEST

/* Keeps its loop busy until `stop` is set. */
struct hog {
    struct loop *loop;
    bool begun, stop; /* atomic */
    unsigned *sum;
};

static void hog_run(void *arg)
{
    struct hog *hog = arg;

    __atomic_store_n(&hog->begun, true, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&hog->stop, __ATOMIC_SEQ_CST))
        usleep(100);
}

static void *hog_call(void *arg)
{
    struct hog *hog = arg;

    loop_call(hog->loop, hog_run, hog);
    return NULL;
}

static void sleep_and_add_one(void *arg)
{
    usleep(50000);
    add_one(arg);
}

static uint64_t in_ms(unsigned ms)
{
    return clock_now_ns() + ms * 1000000ull;
}

START_TEST(a_call_that_timed_out_is_never_run)
{
    struct hog hog = { .loop = loop_create() };
    unsigned late = 0, good = 0;
    uint64_t deadline;
    pthread_t thread;

    ck_assert_int_eq(loop_start(hog.loop, "test"), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, hog_call, &hog), 0);
    while (!__atomic_load_n(&hog.begun, __ATOMIC_SEQ_CST))
        usleep(100);
    deadline = in_ms(20);
    ck_assert(!loop_call_by(hog.loop, add_one, &late, deadline));
    ck_assert_uint_ge(clock_now_ns(), deadline);
    ck_assert(!loop_call_by(hog.loop, add_one, &late, 0)); /* a deadline in the past */
    __atomic_store_n(&hog.stop, true, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    ck_assert(loop_call_by(hog.loop, add_one, &good, in_ms(5000)));
    loop_destroy(hog.loop);
    ck_assert_uint_eq(late, 0);
    ck_assert_uint_eq(good, 1);
}
END_TEST

START_TEST(a_call_that_has_begun_is_waited_for)
{
    struct loop *loop = loop_create();
    unsigned sum = 0, begun = 0;

    ck_assert(loop_call_by(loop, add_one, &sum, 0)); /* on this thread: at once */
    ck_assert_uint_eq(sum, 1);
    ck_assert_int_eq(loop_start(loop, "test"), 0);
    for (unsigned i = 0; i < 20; i++)
        begun += loop_call_by(loop, sleep_and_add_one, &sum, in_ms(i));
    loop_call(loop, nothing, NULL);
    ck_assert_uint_eq(sum, 1 + begun); /* fn has returned wherever the call returned true */
    ck_assert_uint_ge(begun, 1);
    loop_destroy(loop);
}
END_TEST

struct fake_poller {
    struct poller poller;
    int fd, index;
    unsigned rounds, ready;
};

static void fake_prepare(struct poller *poller, struct poll_set *set, uint32_t *timeout_ms)
{
    struct fake_poller *fake = container_of(poller, struct fake_poller, poller);

    fake->index = poll_set_add(set, fake->fd, POLLIN);
    *timeout_ms = 1;
}

static void fake_dispatch(struct poller *poller, const struct poll_set *set)
{
    struct fake_poller *fake = container_of(poller, struct fake_poller, poller);

    fake->rounds++;
    fake->ready += set->fds[fake->index].revents == POLLIN;
}

START_TEST(a_poller_adds_descriptors_and_a_time_out)
{
    struct loop *loop = loop_create();
    struct fake_poller fake = {
        .poller = { .prepare = fake_prepare, .dispatch = fake_dispatch },
        .fd = eventfd(0, 0),
    };

    loop_set_poller(loop, &fake.poller);
    loop_turn(loop, -1); /* returns: the poller's time-out is 1 ms */
    ck_assert_uint_eq(fake.rounds, 1);
    ck_assert_uint_eq(fake.ready, 0);
    ck_assert_int_eq(write(fake.fd, &(uint64_t){ 1 }, 8), 8);
    loop_turn(loop, -1);
    ck_assert_uint_eq(fake.ready, 1);
    loop_set_poller(loop, NULL);
    loop_destroy(loop);
    close(fake.fd);
}
END_TEST

static void exchange(struct watch *watch, short revents)
{
    struct counter *counter = container_of(watch, struct counter, watch);

    loop_remove(counter->loop, watch);
    loop_set_poller(counter->loop, NULL);
    loop_set_poller(counter->loop, counter->poller);
}

START_TEST(a_poller_dispatches_only_after_its_own_prepare)
{
    struct loop *loop = loop_create();
    int fd = eventfd(1, 0);
    struct fake_poller old = { .poller = { fake_prepare, fake_dispatch }, .fd = fd }, new = old;
    struct counter c = counter(loop, fd);

    c.poller = &new.poller;
    c.watch.ready = exchange;
    loop_set_poller(loop, &old.poller);
    loop_add(loop, &c.watch);
    loop_turn(loop, 0);
    ck_assert_uint_eq(old.rounds + new.rounds, 0);
    loop_turn(loop, 0);
    ck_assert_uint_eq(new.rounds, 1);
    loop_set_poller(loop, NULL);
    loop_destroy(loop);
    close(fd);
}
END_TEST

START_TEST(a_regular_file_and_a_closed_descriptor_can_be_watched)
{
    struct loop *loop = loop_create();
    FILE *file = tmpfile();
    struct counter regular = counter(loop, fileno(file)), none = counter(loop, -1);

    loop_add(loop, &regular.watch);
    loop_add(loop, &none.watch);
    loop_turn(loop, 0);
    ck_assert_uint_eq(regular.ready, 1);
    ck_assert_uint_eq(none.ready, 0);
    loop_destroy(loop);
    fclose(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop");
    TCase *tcase = tcase_create("loop");

    tcase_add_test(tcase, ready_is_called_until_the_watch_is_removed);
    tcase_add_test(tcase, a_watch_removed_in_the_same_iteration_is_not_called);
    tcase_add_test(tcase, calls_from_many_threads_run_one_at_a_time);
    tcase_add_test(tcase, a_call_from_the_loop_itself_does_not_wait);
    tcase_add_test(tcase, a_call_that_timed_out_is_never_run);
    tcase_add_test(tcase, a_call_that_has_begun_is_waited_for);
    tcase_add_test(tcase, a_poller_dispatches_only_after_its_own_prepare);
    tcase_add_test(tcase, a_poller_adds_descriptors_and_a_time_out);
    tcase_add_test(tcase, a_regular_file_and_a_closed_descriptor_can_be_watched);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
