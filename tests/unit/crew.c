/* SPDX-License-Identifier: MIT */

/* Loops whose callbacks may block: their threads take over from each other. */
#include "vmm/core/crew.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/loop.h"

#define BLOCKED 10u

/* Callbacks may use these without a lock. */
static struct {
    struct loop *loop;
    int started[2]; /* a pipe with a byte for each callback that is about to block */
    unsigned taken_over, calls, returned;
    bool running;
    pthread_cond_t all_returned;
} l;

static void enter(void)
{
    ck_assert(loop_is_current(l.loop));
    ck_assert(!l.running);
    l.running = true;
}

static void leave(void)
{
    l.running = false;
}

static void wait_for_start(void)
{
    char byte;

    ck_assert_int_eq(read(l.started[0], &byte, 1), 1);
}

/* A watch whose callback blocks until the test writes to the pipe. */
struct slow {
    struct watch watch;
    int pipe[2];
};

static void slow_ready(struct watch *watch, short revents)
{
    struct slow *slow = container_of(watch, struct slow, watch);
    uint64_t count;
    char byte;

    enter();
    ck_assert_int_eq(read(watch->fd, &count, sizeof(count)), sizeof(count));
    leave();
    ck_assert_int_eq(write(l.started[1], "x", 1), 1);
    loop_release(l.loop);
    ck_assert_int_eq(read(slow->pipe[0], &byte, 1), 1);
    loop_acquire(l.loop);
    enter();
    if (++l.returned == BLOCKED)
        pthread_cond_broadcast(&l.all_returned);
    leave();
}

static void taken_over(void *owner)
{
    enter();
    __atomic_fetch_add(&l.taken_over, 1, __ATOMIC_RELAXED);
    leave();
}

static void count_call(void *arg)
{
    enter();
    l.calls++;
    leave();
}

static void count_with_a_short_wait(void *arg)
{
    count_call(arg);
    loop_release(l.loop);
    loop_acquire(l.loop);
    count_call(arg);
}

static void setup(void)
{
    memset(&l, 0, sizeof(l));
    l.loop = loop_create();
    clock_cond_init(&l.all_returned);
    ck_assert_int_eq(pipe(l.started), 0);
    ck_assert_int_eq(loop_allow_blocking(l.loop, taken_over, NULL), 0);
}

static void slow_start(struct slow *slow)
{
    slow->watch = (struct watch){ .fd = eventfd(0, 0), .events = POLLIN, .ready = slow_ready };
    ck_assert_int_eq(pipe(slow->pipe), 0);
    loop_add(l.loop, &slow->watch);
}

static void slow_block(struct slow *slow)
{
    uint64_t one = 1;

    ck_assert_int_eq(write(slow->watch.fd, &one, sizeof(one)), sizeof(one));
}

static void slow_return(struct slow *slow)
{
    ck_assert_int_eq(write(slow->pipe[1], "x", 1), 1);
}

static void wait_for_all(void *arg)
{
    while (l.returned < BLOCKED)
        ck_assert(loop_wait(l.loop, &l.all_returned, UINT64_MAX));
}

static void wait_in_vain(void *arg)
{
    *(bool *)arg = loop_wait(l.loop, &l.all_returned, clock_now_ns() + 1000000);
}

START_TEST(blocked_callbacks_do_not_stop_the_loop)
{
    struct slow slow[BLOCKED];
    bool signalled = true;

    for (unsigned i = 0; i < BLOCKED; i++)
        slow_start(&slow[i]);
    ck_assert_int_eq(loop_start(l.loop, "test"), 0);
    for (unsigned i = 0; i < BLOCKED; i++) {
        slow_block(&slow[i]);
        wait_for_start();
        loop_call(l.loop, count_call, NULL); /* returns although the leader is blocked */
        ck_assert_uint_eq(l.calls, i + 1);
    }
    loop_call(l.loop, wait_in_vain, &signalled);
    ck_assert(!signalled);
    for (unsigned i = 0; i < BLOCKED; i++)
        slow_return(&slow[i]);
    loop_call(l.loop, wait_for_all, NULL);
    loop_destroy(l.loop);
    ck_assert_uint_eq(l.returned, BLOCKED);
    ck_assert_uint_ge(l.taken_over, BLOCKED);
}
END_TEST

START_TEST(short_waits_do_not_change_the_order)
{
    ck_assert_int_eq(loop_start(l.loop, "test"), 0);
    for (unsigned i = 0; i < 2000; i++) {
        loop_call(l.loop, count_with_a_short_wait, NULL);
        ck_assert_uint_eq(l.calls, 2 * i + 2);
    }
    loop_join(l.loop);
    loop_call(l.loop, count_with_a_short_wait, NULL); /* on this thread: nothing is released */
    ck_assert_uint_eq(l.calls, 4002);
    ck_assert_int_eq(loop_start(l.loop, "again"), 0);
    loop_call(l.loop, count_call, NULL);
    loop_destroy(l.loop);
    ck_assert_uint_eq(l.calls, 4003);
}
END_TEST

/* A call that blocks until the test writes to the pipe. */
static void block(void *arg)
{
    int *ends = arg;
    char byte;

    wait_for_start();
    loop_release(l.loop);
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    loop_acquire(l.loop);
}

static void *call_block(void *arg)
{
    loop_call(l.loop, block, arg);
    return NULL;
}

static void *call_count(void *arg)
{
    loop_call(l.loop, count_call, NULL);
    return NULL;
}

/* The leader reads the wake-up for both calls, and blocks in the first. */
START_TEST(calls_behind_a_blocked_one_are_made)
{
    pthread_t first, second;
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(loop_start(l.loop, "test"), 0);
    pthread_create(&first, NULL, call_block, ends);
    pthread_create(&second, NULL, call_count, NULL);
    usleep(20000); /* both are waiting by now, or the test proves less */
    ck_assert_int_eq(write(l.started[1], "x", 1), 1);
    pthread_join(second, NULL);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    pthread_join(first, NULL);
    loop_destroy(l.loop);
    ck_assert_uint_eq(l.calls, 1);
}
END_TEST

static struct slow added;

static void add_watch_late(void *arg)
{
    int *ends = arg;
    char byte;

    loop_release(l.loop);
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    loop_acquire(l.loop);
    slow_start(&added);
}

static void *call_add_watch_late(void *arg)
{
    loop_call(l.loop, add_watch_late, arg);
    return NULL;
}

/* By a former leader, while the new one polls without it. */
START_TEST(a_watch_that_is_added_late_is_seen)
{
    pthread_t thread;
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(loop_start(l.loop, "test"), 0);
    pthread_create(&thread, NULL, call_add_watch_late, ends);
    while (__atomic_load_n(&l.taken_over, __ATOMIC_RELAXED) == 0)
        usleep(1000);
    usleep(20000); /* the new leader polls by now */
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    pthread_join(thread, NULL);
    slow_block(&added);
    wait_for_start();
    slow_return(&added);
    loop_destroy(l.loop);
}
END_TEST

/* All threads are blocked: the loop goes on when the first of them returns. */
START_TEST(more_blocked_callbacks_than_threads)
{
    struct slow slow[CREW_MAX];

    for (unsigned i = 0; i < CREW_MAX; i++)
        slow_start(&slow[i]);
    ck_assert_int_eq(loop_start(l.loop, "test"), 0);
    for (unsigned i = 0; i + 1 < CREW_MAX; i++) {
        slow_block(&slow[i]);
        wait_for_start();
        loop_call(l.loop, count_call, NULL);
    }
    slow_block(&slow[CREW_MAX - 1]);
    wait_for_start();
    for (unsigned i = 0; i + 1 < CREW_MAX; i++)
        slow_return(&slow[i]);
    loop_call(l.loop, count_call, NULL);
    slow_return(&slow[CREW_MAX - 1]);
    loop_destroy(l.loop);
    ck_assert_uint_eq(l.calls, CREW_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crew");
    TCase *tcase = tcase_create("crew");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, blocked_callbacks_do_not_stop_the_loop);
    tcase_add_test(tcase, short_waits_do_not_change_the_order);
    tcase_add_test(tcase, calls_behind_a_blocked_one_are_made);
    tcase_add_test(tcase, a_watch_that_is_added_late_is_seen);
    tcase_add_test(tcase, more_blocked_callbacks_than_threads);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
