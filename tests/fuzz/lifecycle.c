/* SPDX-License-Identifier: MIT */

/*
 * Requests, guest events and slow vCPUs in any order, with a fake of machine.c that checks in which
 * order it is called. The input is one action a byte; at the end every machine must stop.
 */
#include "vmm/machine/lifecycle.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/machine/machine.h"

enum {
    TURN,
    PAUSE,
    RESUME,
    RESET,
    STOP,
    REPORT,
    RESTART,
    SLOW,
    PARK,
    FAIL,
    REACT,
    HOLD,
    START,
    ACTIONS
};

#define FOREVER_MS 1000000u
#define LEAVE      19 /* how to stop */

static struct fake {
    bool runs;            /* between machine_start() and machine_stop() */
    bool asked, parked;   /* the vCPU shall park, and has */
    bool slow;            /* it parks only by PARK */
    bool reports;         /* it ends the machine just when it is asked whether it is parked */
    bool paused;          /* all devices are */
    bool consoles_paused; /* and input stopped */
    bool cannot_start, cannot_pause;
    bool held;     /* what the worker calls does not return */
    bool stopped;  /* as the client was told */
    uint8_t react; /* the client's next action in on_event() */
    int parked_fd;
} fake;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects `fake`: see lifecycle.h */

static pthread_cond_t released = PTHREAD_COND_INITIALIZER;

static struct machine machine;
static struct lifecycle life;

static void act(uint8_t action);

/* With the mutex held. */
static void park(void)
{
    if (fake.runs && !fake.parked)
        demand(write(fake.parked_fd, &(uint64_t){ 1 }, sizeof(uint64_t)) > 0);
    fake.parked = true;
}

/* With the mutex held. */
static void wait_while_held(void)
{
    while (fake.held)
        pthread_cond_wait(&released, &mutex);
}

void machine_start_devices(struct machine *m)
{
}

int machine_start(struct machine *m)
{
    LOCK_SCOPE(&mutex);
    wait_while_held();
    demand(!fake.runs && !fake.paused && !fake.stopped);
    if (fake.cannot_start)
        return -EIO;
    fake.runs = fake.parked = true;
    fake.asked = false;
    return 0;
}

/* The real one's thread is joined by machine_stop(). */
void machine_run_vcpu(struct machine *m)
{
    pthread_detach(pthread_self());
}

void machine_park(struct machine *m)
{
    LOCK_SCOPE(&mutex);
    fake.asked = true;
    if (!fake.slow)
        park();
}

void machine_resume(struct machine *m)
{
    LOCK_SCOPE(&mutex);
    demand(fake.runs && !fake.paused && !fake.consoles_paused);
    fake.asked = fake.parked = false;
}

bool machine_find_unparked(struct machine *m, char *name, size_t size)
{
    const struct event_sink sink = lifecycle_events(&life);
    bool parked, reports;

    {
        LOCK_SCOPE(&mutex);
        demand(fake.runs);
        parked = fake.parked;
        reports = fake.reports && !parked;
        fake.reports = false;
    }
    if (!parked)
        snprintf(name, size, "vcpu0");
    if (reports)
        event_report(&sink, GUEST_POWER_OFF, 0);
    return !parked;
}

bool machine_reset_is_warm(const struct machine *m)
{
    return false;
}

int machine_parked_fd(const struct machine *m)
{
    return fake.parked_fd;
}

void machine_pause_consoles(struct machine *m)
{
    demand(!fake.consoles_paused);
    fake.consoles_paused = true;
}

void machine_resume_consoles(struct machine *m)
{
    demand(fake.consoles_paused);
    fake.consoles_paused = false;
}

int machine_pause_devices(struct machine *m, uint64_t deadline_ns, const char **ret_busy)
{
    LOCK_SCOPE(&mutex);
    wait_while_held();
    demand(fake.runs && fake.parked && !fake.paused && fake.consoles_paused);
    *ret_busy = "blk0";
    fake.paused = !fake.cannot_pause;
    return fake.cannot_pause ? -ETIMEDOUT : 0;
}

void machine_resume_devices(struct machine *m)
{
    LOCK_SCOPE(&mutex);
    demand(fake.runs && fake.parked && fake.paused);
    fake.paused = false;
}

void machine_stop(struct machine *m)
{
    LOCK_SCOPE(&mutex);
    demand(fake.runs && fake.parked && fake.paused == life.leaving && !fake.consoles_paused);
    fake.runs = fake.paused = false;
}

void machine_reset(struct machine *m)
{
    LOCK_SCOPE(&mutex);
    wait_while_held();
    demand(!fake.runs && !fake.paused);
}

static void on_event(void *owner, enum life_event event, const char *name)
{
    static const enum life_state after[] = {
        [LIFE_HAS_PAUSED] = LIFE_PAUSED,   [LIFE_CANNOT_PAUSE] = LIFE_RUNNING,
        [LIFE_HAS_RESUMED] = LIFE_RUNNING, [LIFE_HAS_RESET] = LIFE_RUNNING,
        [LIFE_HAS_STOPPED] = LIFE_STOPPED,
    };
    uint8_t action = fake.react;

    demand(!fake.stopped && lifecycle_state(&life) == after[event]);
    demand(event != LIFE_CANNOT_PAUSE || name);
    demand(fake.paused == (event == LIFE_HAS_PAUSED));
    fake.stopped = event == LIFE_HAS_STOPPED;
    fake.react = 0;
    if (action % ACTIONS != TURN && action % ACTIONS != START && action % ACTIONS != HOLD)
        act(action);
}

/* Waits until the worker has done what it can: else runs would differ. */
static void settle(void)
{
    struct pollfd done = { .fd = life.worker_done.fd, .events = POLLIN };

    if (!fake.held && life.phase != LIFE_STEADY && life.phase != LIFE_PARKING)
        poll(&done, 1, -1);
}

static void hold(bool held)
{
    {
        LOCK_SCOPE(&mutex);
        fake.held = held;
    }
    pthread_cond_broadcast(&released);
    settle();
}

static void turn(void)
{
    loop_turn(life.loop, 0);
    settle();
}

static void report(unsigned event)
{
    const struct event_sink sink = lifecycle_events(&life);

    if (fake.runs && !fake.parked) /* a vCPU reports, and no parked one */
        event_report(&sink, event % (GUEST_TRIPLE_FAULT + 1), event);
}

static void be_slow(unsigned how)
{
    fake.slow = how & 1;
    fake.reports = how & 2;
}

static void fail(unsigned what)
{
    fake.cannot_start = what & 1;
    fake.cannot_pause = what & 2;
}

static void let_park(void)
{
    LOCK_SCOPE(&mutex);
    fake.slow = false;
    if (fake.asked)
        park();
}

static void act(uint8_t action)
{
    unsigned how = action / ACTIONS;

    switch (action % ACTIONS) {
    case TURN:
        turn();
        break;
    case PAUSE:
        lifecycle_pause(&life, how & 1 ? 0 : FOREVER_MS);
        break;
    case RESUME:
        lifecycle_resume(&life);
        break;
    case RESET:
        lifecycle_reset(&life);
        break;
    case STOP:
        if (how == LEAVE)
            lifecycle_leave(&life);
        else
            lifecycle_stop(&life, how);
        break;
    case REPORT:
        report(how);
        break;
    case RESTART:
        lifecycle_set_restart(&life, how & 1);
        break;
    case SLOW:
        be_slow(how);
        break;
    case PARK:
        let_park();
        break;
    case FAIL:
        fail(how);
        break;
    case REACT:
        fake.react = (uint8_t)how;
        break;
    case HOLD:
        hold(how & 1);
        break;
    }
}

/* Whatever happened, a request to stop ends the machine as soon as its vCPU parks. */
static void finish(void)
{
    fake.react = 0;
    lifecycle_stop(&life, 0);
    let_park();
    hold(false);
    for (unsigned i = 0; i < 8 && !fake.stopped; i++)
        turn();
    demand(fake.stopped && (!fake.runs || fake.parked) && lifecycle_state(&life) == LIFE_STOPPED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct life_client client = { .on_event = on_event };
    static struct loop *loop;
    bool started = false;

    log_set_level(LOG_LEVEL_ERROR);
    log_expect_errors(true);
    if (!loop)
        demand((loop = loop_create()) != NULL);
    fake = (struct fake){ .parked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    demand(lifecycle_init(&life, &machine, loop, &client, size & 1) == 0);
    for (; size > 0; data++, size--) {
        if (*data % ACTIONS != START) {
            act(*data);
        } else if (!started && !fake.stopped) {
            started = true;
            demand(lifecycle_start(&life) == 0);
            settle();
        }
    }
    if (!fake.stopped)
        finish();
    lifecycle_finish(&life);
    close(fake.parked_fd);
    return 0;
}
