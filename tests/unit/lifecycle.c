/* SPDX-License-Identifier: MIT */
#include "vmm/machine/lifecycle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/machine/machine.h"

/*
 * A fake of machine.c, without KVM. The test controls when its vCPUs park and whether its devices
 * pause, and checks a record of the calls, one letter each.
 */
static struct fake {
    pthread_mutex_t mutex; /* protects all below: the worker calls, too */
    char steps[128];
    bool stubborn;   /* the vCPU parks only by let_park() */
    bool parked;     /* the vCPU is parked */
    bool stuck;      /* a device cannot be paused */
    bool hold_reset; /* machine_reset() waits */
    bool hold_start; /* machine_start() waits, as for a file that does not answer */
    bool fail_start;
    bool warm_reset;
    bool report_when_asked; /* see machine_find_unparked() */
    enum guest_event reports;
    int parked_fd;
} fake = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static struct machine machine;
static struct loop *loop;
static struct lifecycle life;
static char events[128];
static char busy[64];

static void step(char what)
{
    LOCK_SCOPE(&fake.mutex);
    fake.steps[strlen(fake.steps)] = what;
}

/* With the mutex held. */
static void park(void)
{
    if (!fake.parked && write(fake.parked_fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
        abort();
    fake.parked = true;
}

static void let_park(void)
{
    LOCK_SCOPE(&fake.mutex);
    fake.stubborn = false;
    park();
}

static void wait_while(const bool *held)
{
    bool wait = true;

    while (wait) {
        {
            LOCK_SCOPE(&fake.mutex);
            wait = *held;
        }
        if (wait)
            usleep(1000);
    }
}

void machine_start_devices(struct machine *m)
{
}

int machine_start(struct machine *m)
{
    wait_while(&fake.hold_start);
    step('S');
    LOCK_SCOPE(&fake.mutex);
    fake.parked = true;
    return fake.fail_start ? -EIO : 0;
}

/* The real one's thread is joined by machine_stop(). */
void machine_run_vcpu(struct machine *m)
{
    pthread_detach(pthread_self());
}

void machine_park(struct machine *m)
{
    step('p');
    LOCK_SCOPE(&fake.mutex);
    if (!fake.stubborn)
        park();
}

void machine_resume(struct machine *m)
{
    step('r');
    LOCK_SCOPE(&fake.mutex);
    fake.parked = false;
}

bool machine_find_unparked(struct machine *m, char *name, size_t size)
{
    bool parked, report;

    {
        LOCK_SCOPE(&fake.mutex);
        parked = fake.parked;
        report = !parked && fake.report_when_asked;
        fake.report_when_asked &= parked;
    }
    if (!parked)
        snprintf(name, size, "vcpu0 (uart16550)");
    if (report) { /* just after it was found busy, the vCPU reports */
        const struct event_sink sink = lifecycle_events(&life);

        event_report(&sink, fake.reports, 0);
    }
    return !parked;
}

bool machine_reset_is_warm(const struct machine *m)
{
    return fake.warm_reset;
}

int machine_parked_fd(const struct machine *m)
{
    return fake.parked_fd;
}

void machine_pause_consoles(struct machine *m)
{
    step('c');
}

void machine_resume_consoles(struct machine *m)
{
    step('C');
}

int machine_pause_devices(struct machine *m, uint64_t deadline_ns, const char **ret_busy)
{
    step('d');
    LOCK_SCOPE(&fake.mutex);
    if (fake.stuck)
        *ret_busy = "blk0";
    return fake.stuck ? -ETIMEDOUT : 0;
}

void machine_resume_devices(struct machine *m)
{
    step('D');
}

void machine_stop(struct machine *m)
{
    step('x');
}

void machine_reset(struct machine *m)
{
    wait_while(&fake.hold_reset);
    step('z');
}

static void on_event(void *owner, enum life_event what, const char *name)
{
    static const char letters[] = {
        [LIFE_HAS_PAUSED] = 'P', [LIFE_CANNOT_PAUSE] = 'N', [LIFE_HAS_RESUMED] = 'R',
        [LIFE_HAS_WORKED] = 'W', [LIFE_HAS_RESET] = 'Z',    [LIFE_HAS_STOPPED] = 'X'
    };

    events[strlen(events)] = letters[what];
    if (what == LIFE_CANNOT_PAUSE)
        snprintf(busy, sizeof(busy), "%s", name);
}

static void set_up(void)
{
    const struct life_client client = { .on_event = on_event };
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    fake = (struct fake){ .mutex = PTHREAD_MUTEX_INITIALIZER, .parked_fd = fd };
    memset(events, 0, sizeof(events));
    loop = loop_create();
    ck_assert_int_eq(lifecycle_init(&life, &machine, loop, &client, true), 0);
}

static void tear_down(void)
{
    lifecycle_finish(&life);
    loop_destroy(loop);
    close(fake.parked_fd);
}

static void start(void)
{
    ck_assert_int_eq(lifecycle_start(&life), 0);
    for (unsigned i = 0; i < 2000 && life.phase == LIFE_STARTING; i++)
        loop_turn(loop, 10);
    ck_assert_int_eq(lifecycle_state(&life), LIFE_RUNNING);
}

static void release(bool *held)
{
    LOCK_SCOPE(&fake.mutex);
    *held = false;
}

/* Runs the loop until the client has been notified of all of `expected`. */
static void await(const char *expected)
{
    for (unsigned i = 0; i < 2000 && strlen(events) < strlen(expected); i++)
        loop_turn(loop, 10);
    ck_assert_str_eq(events, expected);
}

static void report(enum guest_event event, unsigned code)
{
    struct event_sink sink = lifecycle_events(&life);

    event_report(&sink, event, code);
}

START_TEST(a_machine_pauses_and_resumes)
{
    start();
    for (unsigned i = 0; i < 3; i++) {
        memset(events, 0, sizeof(events));
        memset(fake.steps, 0, sizeof(fake.steps));
        lifecycle_pause(&life, 10000);
        await("P");
        ck_assert_int_eq(lifecycle_state(&life), LIFE_PAUSED);
        ck_assert_str_eq(fake.steps, "pcd");
        lifecycle_resume(&life);
        await("PR");
        ck_assert_int_eq(lifecycle_state(&life), LIFE_RUNNING);
        ck_assert_str_eq(fake.steps, "pcdDCr"); /* the devices before the vCPUs */
    }
}
END_TEST

START_TEST(a_pause_of_a_paused_machine_is_notified_again)
{
    start();
    lifecycle_pause(&life, 10000);
    await("P");
    lifecycle_pause(&life, 10000);
    await("PP");
    lifecycle_resume(&life);
    await("PPR");
    lifecycle_resume(&life); /* no effect on a running machine */
    loop_turn(loop, 0);
    lifecycle_pause(&life, 10000);
    await("PPRP");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_PAUSED);
}
END_TEST

START_TEST(a_pause_fails_if_a_vcpu_does_not_park_in_time)
{
    start();
    fake.stubborn = true;
    lifecycle_pause(&life, 30);
    await("N");
    ck_assert_str_eq(busy, "vcpu0 (uart16550)");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_RUNNING);
    ck_assert_str_eq(fake.steps, "SrpcCr");
    fake.stubborn = false;
    lifecycle_pause(&life, 10000);
    await("NP");
}
END_TEST

START_TEST(a_pause_fails_if_a_device_cannot_be_paused)
{
    start();
    fake.stuck = true;
    lifecycle_pause(&life, 10000);
    await("N");
    ck_assert_str_eq(busy, "blk0");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_RUNNING);
    ck_assert_str_eq(fake.steps, "SrpcdCr");
    fake.stuck = false;
    lifecycle_pause(&life, 10000);
    await("NP");
}
END_TEST

START_TEST(a_pause_can_be_cancelled)
{
    start();
    fake.stubborn = true;
    lifecycle_pause(&life, 10000);
    loop_turn(loop, 100);
    lifecycle_resume(&life);
    loop_turn(loop, 100);
    let_park();
    for (unsigned i = 0; i < 5; i++)
        loop_turn(loop, 10);
    ck_assert_str_eq(events, "R");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_RUNNING);
    ck_assert_str_eq(fake.steps, "SrpcCr");
}
END_TEST

START_TEST(a_running_machine_stops)
{
    start();
    lifecycle_stop(&life, 7);
    lifecycle_stop(&life, 8); /* ignored: the first wins */
    await("X");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_STOPPED);
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_REQUEST);
    ck_assert_uint_eq(lifecycle_end(&life)->code, 7);
    ck_assert_str_eq(fake.steps, "Srpxz");
    lifecycle_pause(&life, 10); /* requests have no effect any more */
    lifecycle_resume(&life);
    lifecycle_reset(&life);
    lifecycle_stop(&life, 9);
    loop_turn(loop, 50);
    loop_turn(loop, 50);
    ck_assert_str_eq(events, "X");
    ck_assert_uint_eq(lifecycle_end(&life)->code, 7);
}
END_TEST

START_TEST(a_paused_machine_stops)
{
    start();
    lifecycle_pause(&life, 10000);
    await("P");
    lifecycle_stop(&life, 0);
    await("PX");
    ck_assert_str_eq(fake.steps, "SrpcdDCxz"); /* devices resume before they are reset */
}
END_TEST

START_TEST(a_machine_stops_before_its_start)
{
    lifecycle_stop(&life, 3);
    await("X");
    ck_assert_str_eq(fake.steps, "");
    ck_assert_uint_eq(lifecycle_end(&life)->code, 3);
}
END_TEST

START_TEST(a_stop_overrides_a_pause_in_progress)
{
    start();
    fake.stubborn = true;
    lifecycle_pause(&life, 10000);
    loop_turn(loop, 100);
    lifecycle_stop(&life, 1);
    loop_turn(loop, 100);
    let_park();
    await("X");
    ck_assert_str_eq(fake.steps, "SrpcCxz");
}
END_TEST

START_TEST(a_guest_reset_restarts_the_machine)
{
    start();
    for (unsigned i = 0; i < 3; i++) {
        memset(events, 0, sizeof(events));
        memset(fake.steps, 0, sizeof(fake.steps));
        report(GUEST_RESET, 0);
        report(GUEST_POWER_OFF, 0); /* by another vCPU: ignored */
        await("Z");
        ck_assert_int_eq(lifecycle_state(&life), LIFE_RUNNING);
        ck_assert_str_eq(fake.steps, "pppxzSr");
    }
}
END_TEST

/* What the guest has asked its devices is done where the machine goes on, and only there. */
START_TEST(devices_of_a_machine_that_leaves_stay_paused)
{
    start();
    lifecycle_pause(&life, 10000);
    await("P");
    lifecycle_leave(&life);
    await("PX");
    ck_assert_str_eq(fake.steps, "SrpcdCxz");
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_REQUEST);
}
END_TEST

START_TEST(a_paused_machine_that_cannot_go_on_ends)
{
    start();
    lifecycle_pause(&life, 10000);
    await("P");
    lifecycle_fail(&life);
    lifecycle_resume(&life);
    await("PX");
    ck_assert_str_eq(fake.steps, "SrpcdCxz"); /* its devices do nothing more */
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_FAILURE);
}
END_TEST

START_TEST(a_running_machine_does_not_leave)
{
    start();
    lifecycle_leave(&life);
    await("X");
    ck_assert(!life.leaving);
}
END_TEST

START_TEST(a_paused_machine_resets)
{
    start();
    lifecycle_pause(&life, 10000);
    await("P");
    lifecycle_reset(&life);
    await("PZ");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_RUNNING);
    ck_assert_str_eq(fake.steps, "SrpcdDCxzSr");
}
END_TEST

START_TEST(a_pause_during_a_reset_follows_it)
{
    start();
    fake.hold_reset = true;
    report(GUEST_RESET, 0);
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    ck_assert_int_eq(lifecycle_state(&life), LIFE_RESETTING);
    lifecycle_pause(&life, 10000);
    loop_turn(loop, 100);
    release(&fake.hold_reset);
    await("ZP");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_PAUSED);
}
END_TEST

START_TEST(a_stop_overrides_a_reset_in_progress)
{
    start();
    fake.hold_reset = true;
    report(GUEST_RESET, 0);
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    lifecycle_stop(&life, 5);
    release(&fake.hold_reset);
    await("X");
    ck_assert_uint_eq(lifecycle_end(&life)->code, 5);
    ck_assert_str_eq(fake.steps, "Srppxz"); /* no second start */
}
END_TEST

START_TEST(without_restart_a_reset_stops_the_machine)
{
    start();
    lifecycle_set_restart(&life, false);
    report(GUEST_RESET, 0);
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_GUEST);
    ck_assert_int_eq(lifecycle_end(&life)->event, GUEST_RESET);
}
END_TEST

START_TEST(a_warm_reset_is_told_from_a_cold_one)
{
    fake.warm_reset = _i;
    start();
    lifecycle_set_restart(&life, false);
    report(GUEST_RESET, 0);
    fake.warm_reset = !_i; /* the memory that told it is cleared */
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->warm_reset, _i);
}
END_TEST

START_TEST(the_first_guest_event_wins)
{
    start();
    report(GUEST_EXIT, 42);
    report(GUEST_PANIC, 0);
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->event, GUEST_EXIT);
    ck_assert_uint_eq(lifecycle_end(&life)->code, 42);
}
END_TEST

START_TEST(a_stop_request_overrides_a_guest_event_until_the_machine_has_stopped)
{
    start();
    fake.hold_reset = true;
    report(GUEST_POWER_OFF, 0);
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    lifecycle_stop(&life, 143);
    release(&fake.hold_reset);
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_REQUEST);
    ck_assert_uint_eq(lifecycle_end(&life)->code, 143);
}
END_TEST

START_TEST(a_failed_restart_stops_the_machine)
{
    start();
    fake.fail_start = true;
    report(GUEST_RESET, 0);
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_FAILURE);
}
END_TEST

static void *ask_often(void *arg)
{
    for (unsigned i = 0; i < 300; i++) {
        lifecycle_pause(&life, 10000);
        if (i % 7 == 0)
            lifecycle_reset(&life);
        lifecycle_resume(&life);
    }
    return NULL;
}

START_TEST(requests_from_many_threads)
{
    pthread_t threads[3];

    start();
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_often, NULL), 0);
    for (unsigned i = 0; i < 100; i++) {
        memset(events, 0, sizeof(events)); /* discard what has been notified so far */
        {
            LOCK_SCOPE(&fake.mutex);
            memset(fake.steps, 0, sizeof(fake.steps));
        }
        loop_turn(loop, 1);
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    memset(events, 0, sizeof(events));
    {
        LOCK_SCOPE(&fake.mutex);
        memset(fake.steps, 0, sizeof(fake.steps));
    }
    lifecycle_stop(&life, 0);
    for (unsigned i = 0; i < 1000 && lifecycle_state(&life) != LIFE_STOPPED; i++)
        loop_turn(loop, 10);
    ck_assert_int_eq(lifecycle_state(&life), LIFE_STOPPED);
}
END_TEST

START_TEST(without_restart_the_reset_in_progress_is_the_end)
{
    start();
    fake.hold_reset = true;
    report(GUEST_RESET, 0);
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    ck_assert_int_eq(lifecycle_state(&life), LIFE_RESETTING);
    lifecycle_set_restart(&life, false);
    release(&fake.hold_reset);
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_GUEST);
    ck_assert_int_eq(lifecycle_end(&life)->event, GUEST_RESET);
}
END_TEST

/* The vCPUs must not run on once the guest has ended, whatever became of the pause. */
START_TEST(an_end_reported_while_a_pause_fails_is_not_resumed)
{
    start();
    fake.stubborn = true;
    fake.reports = GUEST_POWER_OFF;
    lifecycle_pause(&life, 0);
    fake.report_when_asked = true;
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    let_park();
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->event, GUEST_POWER_OFF);
    ck_assert_ptr_null(strchr(fake.steps + strlen("Sr"), 'r'));
}
END_TEST

/* Whoever asked for the pause waits for an answer. */
START_TEST(a_pause_that_fails_during_a_reset_is_answered_after_it)
{
    start();
    fake.stubborn = true;
    fake.reports = GUEST_RESET;
    lifecycle_pause(&life, 0);
    fake.report_when_asked = true;
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    let_park();
    await("ZP");
    ck_assert_int_eq(lifecycle_state(&life), LIFE_PAUSED);
}
END_TEST

static void nothing(void *owner)
{
}

/* A later transition would take the event for its own worker's. */
START_TEST(work_without_a_thread_leaves_no_event)
{
    pthread_attr_t usual, huge;

    start();
    lifecycle_pause(&life, 10000);
    await("P");
    ck_assert_int_eq(pthread_getattr_default_np(&usual), 0);
    pthread_attr_init(&huge);
    ck_assert_int_eq(pthread_attr_setstacksize(&huge, SIZE_MAX / 4), 0);
    ck_assert_int_eq(pthread_setattr_default_np(&huge), 0);
    log_set_level(LOG_LEVEL_ERROR);
    ck_assert(!lifecycle_work(&life, nothing, NULL));
    ck_assert_int_eq(pthread_setattr_default_np(&usual), 0);
    ck_assert_int_lt(read(life.worker_done.fd, &(uint64_t){ 0 }, sizeof(uint64_t)), 0);
    ck_assert(lifecycle_work(&life, nothing, NULL));
    await("PW");
}
END_TEST

START_TEST(a_request_before_the_start_is_served_after_it)
{
    lifecycle_pause(&life, 10000);
    loop_turn(loop, 100);
    start();
    await("P");
}
END_TEST

/* The start, and the one after a reset, read files. */
START_TEST(a_machine_whose_files_do_not_answer_can_be_stopped)
{
    if (_i) {
        start();
        fake.hold_start = true;
        report(GUEST_RESET, 0);
    } else {
        fake.hold_start = true;
        ck_assert_int_eq(lifecycle_start(&life), 0);
    }
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    ck_assert_int_ne(lifecycle_state(&life), LIFE_RUNNING);
    lifecycle_stop(&life, 143);
    loop_turn(loop, 0); /* the loop listens on */
    release(&fake.hold_start);
    await("X");
    ck_assert_uint_eq(lifecycle_end(&life)->code, 143);
    ck_assert_str_eq(fake.steps, _i ? "SrppxzS" : "S"); /* the guest does not run */
}
END_TEST

START_TEST(a_failed_start_stops_the_machine)
{
    fake.fail_start = true;
    ck_assert_int_eq(lifecycle_start(&life), 0);
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->reason, END_FAILURE);
}
END_TEST

/* A guest that begins to run only then would not have heard the request to power off. */
START_TEST(without_restart_the_reset_ends_while_the_files_are_read)
{
    start();
    fake.hold_start = true;
    report(GUEST_RESET, 0);
    loop_turn(loop, 100);
    loop_turn(loop, 100);
    lifecycle_set_restart(&life, false);
    release(&fake.hold_start);
    await("X");
    ck_assert_int_eq(lifecycle_end(&life)->event, GUEST_RESET);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lifecycle");
    TCase *tcase = tcase_create("lifecycle");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_machine_pauses_and_resumes);
    tcase_add_test(tcase, a_pause_of_a_paused_machine_is_notified_again);
    tcase_add_test(tcase, a_pause_fails_if_a_vcpu_does_not_park_in_time);
    tcase_add_test(tcase, a_pause_fails_if_a_device_cannot_be_paused);
    tcase_add_test(tcase, a_pause_can_be_cancelled);
    tcase_add_test(tcase, a_running_machine_stops);
    tcase_add_test(tcase, a_paused_machine_stops);
    tcase_add_test(tcase, a_machine_stops_before_its_start);
    tcase_add_test(tcase, a_stop_overrides_a_pause_in_progress);
    tcase_add_test(tcase, a_guest_reset_restarts_the_machine);
    tcase_add_test(tcase, devices_of_a_machine_that_leaves_stay_paused);
    tcase_add_test(tcase, a_paused_machine_that_cannot_go_on_ends);
    tcase_add_test(tcase, a_running_machine_does_not_leave);
    tcase_add_test(tcase, a_paused_machine_resets);
    tcase_add_test(tcase, a_pause_during_a_reset_follows_it);
    tcase_add_test(tcase, a_stop_overrides_a_reset_in_progress);
    tcase_add_test(tcase, without_restart_a_reset_stops_the_machine);
    tcase_add_loop_test(tcase, a_warm_reset_is_told_from_a_cold_one, 0, 2);
    tcase_add_test(tcase, the_first_guest_event_wins);
    tcase_add_test(tcase, a_stop_request_overrides_a_guest_event_until_the_machine_has_stopped);
    tcase_add_test(tcase, a_failed_restart_stops_the_machine);
    tcase_add_test(tcase, without_restart_the_reset_in_progress_is_the_end);
    tcase_add_test(tcase, an_end_reported_while_a_pause_fails_is_not_resumed);
    tcase_add_test(tcase, a_pause_that_fails_during_a_reset_is_answered_after_it);
    tcase_add_test(tcase, work_without_a_thread_leaves_no_event);
    tcase_add_test(tcase, a_request_before_the_start_is_served_after_it);
    tcase_add_loop_test(tcase, a_machine_whose_files_do_not_answer_can_be_stopped, 0, 2);
    tcase_add_test(tcase, a_failed_start_stops_the_machine);
    tcase_add_test(tcase, without_restart_the_reset_ends_while_the_files_are_read);
    tcase_add_test(tcase, requests_from_many_threads);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
