/* SPDX-License-Identifier: MIT */
#include "vmm/machine/lifecycle.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/machine/machine.h"

/* Requests: noted under the mutex, then acted on by the main loop. */

static void lifecycle_signal(int fd)
{
    if (write(fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0 && errno != EAGAIN)
        log_error(errno, "wake the main loop");
}

void lifecycle_pause(struct lifecycle *life, uint64_t timeout_ms)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->pause = true;
        life->resume = false;
        life->deadline_ns = clock_now_ns() + timeout_ms * 1000000;
    }
    lifecycle_signal(life->requested.fd);
}

void lifecycle_resume(struct lifecycle *life)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->resume = true;
        life->pause = false;
    }
    lifecycle_signal(life->requested.fd);
}

void lifecycle_reset(struct lifecycle *life)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->reset = true;
    }
    lifecycle_signal(life->requested.fd);
}

void lifecycle_stop(struct lifecycle *life, unsigned code)
{
    {
        LOCK_SCOPE(&life->mutex);
        if (life->state == LIFE_STOPPED || (life->stop && life->end.reason == END_REQUEST))
            return;
        life->stop = true;
        life->end = (struct life_end){ .reason = END_REQUEST, .code = code };
    }
    lifecycle_signal(life->requested.fd);
}

void lifecycle_set_restart(struct lifecycle *life, bool restart)
{
    LOCK_SCOPE(&life->mutex);
    life->restart = restart;
}

/* What the guest did. On a vCPU's thread, which enters the guest no more: none does. */
static void lifecycle_report(void *owner, enum guest_event event, unsigned code)
{
    struct lifecycle *life = owner;

    {
        LOCK_SCOPE(&life->mutex);
        if (life->stop || life->reset)
            return;
        if (event == GUEST_RESET && life->restart) {
            life->reset = true;
        } else {
            life->stop = true;
            life->end = (struct life_end){ .reason = END_GUEST, .event = event, .code = code };
        }
    }
    machine_park(life->machine);
    lifecycle_signal(life->requested.fd);
}

struct event_sink lifecycle_events(struct lifecycle *life)
{
    return (struct event_sink){ .report = lifecycle_report, .owner = life };
}

enum life_state lifecycle_state(struct lifecycle *life)
{
    LOCK_SCOPE(&life->mutex);
    return life->state;
}

const struct life_end *lifecycle_end(const struct lifecycle *life)
{
    return &life->end;
}

/* The main loop's side. */

static void lifecycle_set_state(struct lifecycle *life, enum life_state state)
{
    LOCK_SCOPE(&life->mutex);
    life->state = state;
}

static void lifecycle_tell(struct lifecycle *life, enum life_news news, const char *name)
{
    life->client.happened(life->client.owner, news, name);
}

static void *lifecycle_pause_devices(void *arg)
{
    struct lifecycle *life = arg;

    life->result = machine_pause_devices(life->machine, life->worker_deadline_ns, &life->busy);
    lifecycle_signal(life->rested.fd);
    return NULL;
}

static void *lifecycle_clear(void *arg)
{
    struct lifecycle *life = arg;

    machine_reset(life->machine);
    lifecycle_signal(life->rested.fd);
    return NULL;
}

/* Has a thread do what may have to wait for the host. */
static void lifecycle_work(struct lifecycle *life, enum life_phase phase, void *(*work)(void *))
{
    int error;

    life->phase = phase;
    life->result = 0;
    error = pthread_create(&life->worker, NULL, work, life);
    if (!error)
        return;
    log_error(error, "start a thread");
    life->worker = pthread_self(); /* so do it here: late is better than never */
    work(life);
}

static void lifecycle_join(struct lifecycle *life)
{
    if (!pthread_equal(life->worker, pthread_self()))
        pthread_join(life->worker, NULL);
}

static void lifecycle_stopped(struct lifecycle *life)
{
    life->phase = LIFE_STEADY;
    lifecycle_set_state(life, LIFE_STOPPED);
    lifecycle_tell(life, LIFE_HAS_STOPPED, NULL);
}

/* Held back, the consoles also let a vCPU go that waits for somebody to read its output. */
static void lifecycle_hold_consoles(struct lifecycle *life, bool hold)
{
    if (life->consoles_held == hold)
        return;
    life->consoles_held = hold;
    if (hold)
        machine_pause_consoles(life->machine);
    else
        machine_resume_consoles(life->machine);
}

static void lifecycle_run_on(struct lifecycle *life)
{
    life->phase = LIFE_STEADY;
    lifecycle_set_state(life, LIFE_RUNNING);
    lifecycle_hold_consoles(life, false);
    machine_resume(life->machine);
}

static void lifecycle_give_up_pause(struct lifecycle *life, const char *name)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->pause = false;
    }
    lifecycle_run_on(life);
    lifecycle_tell(life, LIFE_CANNOT_PAUSE, name);
}

/* What is wanted, as one thread or another has left it. */
struct life_wish {
    bool pause, resume, end; /* end: stop or reset */
    bool stop;
    uint64_t deadline_ns;
};

static struct life_wish lifecycle_wish(struct lifecycle *life)
{
    LOCK_SCOPE(&life->mutex);
    return (struct life_wish){ .pause = life->pause,
                               .resume = life->resume,
                               .end = life->stop || life->reset,
                               .stop = life->stop,
                               .deadline_ns = life->deadline_ns };
}

static void lifecycle_begin_parking(struct lifecycle *life, const struct life_wish *wish)
{
    uint64_t now = clock_now_ns();

    life->phase = LIFE_PARKING;
    machine_park(life->machine);
    if (wish->end)
        return;
    lifecycle_hold_consoles(life, true);
    alarm_set(&life->late, wish->deadline_ns > now ? (wish->deadline_ns - now) / 1000000 + 1 : 1);
}

static void lifecycle_has_paused(struct lifecycle *life)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->pause = false;
        life->state = LIFE_PAUSED;
    }
    lifecycle_tell(life, LIFE_HAS_PAUSED, NULL);
}

static void lifecycle_end_pause(struct lifecycle *life)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->resume = false;
    }
    machine_resume_devices(life->machine);
    lifecycle_run_on(life);
    lifecycle_tell(life, LIFE_HAS_RESUMED, NULL);
}

/* Nothing is under way. True if something is now. */
static bool lifecycle_leave_steady(struct lifecycle *life)
{
    struct life_wish wish = lifecycle_wish(life);

    switch (life->state) {
    case LIFE_RUNNING:
        if (!wish.end && !wish.pause)
            return false;
        lifecycle_begin_parking(life, &wish);
        return true;
    case LIFE_PAUSED:
        if (wish.end) {
            machine_resume_devices(life->machine); /* to end as they do when they run ... */
            life->phase = LIFE_PARKING;            /* ... but with the vCPUs as they are */
        } else if (wish.resume) {
            lifecycle_end_pause(life);
        } else if (wish.pause) {
            lifecycle_has_paused(life); /* already */
        }
        return wish.end || wish.resume;
    case LIFE_BUILT:
        if (wish.stop)
            lifecycle_stopped(life);
        return false;
    default:
        return false;
    }
}

static bool lifecycle_leave_parking(struct lifecycle *life)
{
    struct life_wish wish = lifecycle_wish(life);
    char busy[64];

    if (!machine_find_unparked(life->machine, busy, sizeof(busy))) {
        alarm_set(&life->late, 0);
        if (wish.end) {
            lifecycle_set_state(life, LIFE_RESETTING);
            lifecycle_hold_consoles(life, false);
            machine_stop(life->machine);
            lifecycle_work(life, LIFE_CLEARING, lifecycle_clear);
        } else if (wish.pause) {
            life->worker_deadline_ns = wish.deadline_ns;
            lifecycle_work(life, LIFE_PAUSING, lifecycle_pause_devices);
        } else {
            lifecycle_run_on(life); /* it was called off */
        }
        return true;
    }
    if (wish.end || (wish.pause && clock_now_ns() < wish.deadline_ns))
        return false; /* there is time */
    alarm_set(&life->late, 0);
    if (wish.pause)
        lifecycle_give_up_pause(life, busy);
    else
        lifecycle_run_on(life);
    return true;
}

/* The devices are paused, or one could not be: then none is. */
static void lifecycle_paused(struct lifecycle *life)
{
    struct life_wish wish = lifecycle_wish(life);

    lifecycle_join(life);
    if (life->result) {
        life->phase = LIFE_PARKING;
        if (!wish.end)
            lifecycle_give_up_pause(life, life->busy);
        return;
    }
    life->phase = LIFE_STEADY;
    lifecycle_has_paused(life);
}

/* Devices and memory are as after power-on. */
static void lifecycle_cleared(struct lifecycle *life)
{
    struct life_wish wish = lifecycle_wish(life);
    int error;

    lifecycle_join(life);
    if (wish.stop) {
        lifecycle_stopped(life);
        return;
    }
    {
        LOCK_SCOPE(&life->mutex);
        life->reset = false; /* before the guest runs, which may ask for the next */
    }
    log_info("the guest resets");
    error = machine_start(life->machine);
    if (error) {
        {
            LOCK_SCOPE(&life->mutex);
            life->stop = true;
            life->end = (struct life_end){ .reason = END_FAILURE };
        }
        lifecycle_stopped(life);
        return;
    }
    life->phase = LIFE_STEADY;
    lifecycle_set_state(life, LIFE_RUNNING);
    lifecycle_tell(life, LIFE_HAS_RESET, NULL);
}

static void lifecycle_advance(struct lifecycle *life)
{
    bool moved = true;

    while (moved) {
        if (life->phase == LIFE_STEADY)
            moved = lifecycle_leave_steady(life);
        else if (life->phase == LIFE_PARKING)
            moved = lifecycle_leave_parking(life);
        else
            moved = false; /* the worker will tell */
    }
}

static bool lifecycle_heard(struct watch *watch)
{
    uint64_t count;

    return read(watch->fd, &count, sizeof(count)) == sizeof(count);
}

static void lifecycle_requested(struct watch *watch, short revents)
{
    if (lifecycle_heard(watch))
        lifecycle_advance(container_of(watch, struct lifecycle, requested));
}

static void lifecycle_parked(struct watch *watch, short revents)
{
    if (lifecycle_heard(watch))
        lifecycle_advance(container_of(watch, struct lifecycle, parked));
}

static void lifecycle_late(struct watch *watch, short revents)
{
    if (lifecycle_heard(watch))
        lifecycle_advance(container_of(watch, struct lifecycle, late));
}

static void lifecycle_rested(struct watch *watch, short revents)
{
    struct lifecycle *life = container_of(watch, struct lifecycle, rested);

    if (!lifecycle_heard(watch))
        return;
    if (life->phase == LIFE_PAUSING)
        lifecycle_paused(life);
    else if (life->phase == LIFE_CLEARING)
        lifecycle_cleared(life);
    lifecycle_advance(life);
}

static int lifecycle_watch(struct lifecycle *life, struct watch *watch, int fd,
                           void (*ready)(struct watch *watch, short revents))
{
    *watch = (struct watch){ .fd = fd, .events = POLLIN, .ready = ready };
    if (fd < 0)
        return log_error(errno, "set up the main loop");
    loop_add(life->loop, watch);
    return 0;
}

int lifecycle_init(struct lifecycle *life, struct machine *machine, struct loop *loop,
                   const struct life_client *client, bool restart)
{
    int error;

    *life = (struct lifecycle){ .machine = machine,
                                .loop = loop,
                                .client = *client,
                                .restart = restart,
                                .requested = { .fd = -1 },
                                .rested = { .fd = -1 } };
    pthread_mutex_init(&life->mutex, NULL);
    if ((error = lifecycle_watch(life, &life->requested, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 lifecycle_requested)) ||
        (error = lifecycle_watch(life, &life->rested, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 lifecycle_rested)))
        return error;
    return alarm_open(&life->late, loop, lifecycle_late);
}

void lifecycle_finish(struct lifecycle *life)
{
    struct watch *ours[] = { &life->requested, &life->rested };

    if (!life->loop)
        return; /* never begun */
    for (unsigned i = 0; i < ARRAY_SIZE(ours); i++)
        if (ours[i]->fd >= 0) {
            loop_remove(life->loop, ours[i]);
            close(ours[i]->fd);
        }
    if (life->parked.ready)
        loop_remove(life->loop, &life->parked);
    alarm_close(&life->late, life->loop);
    pthread_mutex_destroy(&life->mutex);
}

int lifecycle_start(struct lifecycle *life)
{
    int error =
        lifecycle_watch(life, &life->parked, machine_parked_fd(life->machine), lifecycle_parked);

    if (!error)
        error = machine_start(life->machine);
    if (!error)
        lifecycle_set_state(life, LIFE_RUNNING);
    return error;
}
