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
#include "vmm/core/seccomp.h"
#include "vmm/machine/machine.h"

/* Requests: recorded under the mutex, then carried out by the main loop. */

static void lifecycle_signal(int fd)
{
    if (write(fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0 && errno != EAGAIN)
        log_error(errno, "wake the main loop");
}

void lifecycle_pause(struct lifecycle *life, uint32_t timeout_ms)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->pause = true;
        life->resume = false;
        life->deadline_ns = clock_now_ns() + timeout_ms * 1000000ull;
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

void lifecycle_leave(struct lifecycle *life)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->leaving = life->state == LIFE_PAUSED;
    }
    lifecycle_stop(life, 0);
}

void lifecycle_fail(struct lifecycle *life)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->leaving = life->state == LIFE_PAUSED;
        if (!life->stop)
            life->end = (struct life_end){ .reason = END_FAILURE };
        life->stop = true;
    }
    lifecycle_signal(life->requested.fd);
}

/* With the mutex held. */
static void lifecycle_stop_guest(struct lifecycle *life, enum guest_event event, unsigned code)
{
    life->stop = true;
    life->end = (struct life_end){ .reason = END_GUEST, .event = event, .code = code };
}

void lifecycle_set_restart(struct lifecycle *life, bool restart)
{
    LOCK_SCOPE(&life->mutex);
    life->restart = restart;
    if (!restart && life->guest_reset && !life->stop)
        lifecycle_stop_guest(life, GUEST_RESET, 0); /* the reset in progress */
}

/* Parks all vCPUs: the guest must not run on after such an event. On a vCPU's thread. */
static void lifecycle_report(void *owner, enum guest_event event, unsigned code)
{
    struct lifecycle *life = owner;

    {
        LOCK_SCOPE(&life->mutex);
        if (life->stop || life->reset) {
            ; /* only the first event counts */
        } else if (event == GUEST_RESET && life->restart) {
            life->reset = life->guest_reset = true;
        } else {
            lifecycle_stop_guest(life, event, code);
            life->end.warm_reset = machine_reset_is_warm(life->machine);
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

/* On the main loop. */

static void lifecycle_set_state(struct lifecycle *life, enum life_state state)
{
    LOCK_SCOPE(&life->mutex);
    life->state = state;
}

static void lifecycle_notify(struct lifecycle *life, enum life_event event, const char *name)
{
    life->client.on_event(life->client.owner, event, name);
}

static void *lifecycle_pause_devices(void *arg)
{
    struct lifecycle *life = arg;

    life->result = machine_pause_devices(life->machine, life->worker_deadline_ns, &life->busy);
    lifecycle_signal(life->worker_done.fd);
    return NULL;
}

/*
 * Lets the vCPUs of a machine that is ready run, unless it is to stop. Under the mutex: the guest
 * may at once request the next reset.
 */
static void lifecycle_enter_running(struct lifecycle *life)
{
    LOCK_SCOPE(&life->mutex);
    if (life->stop)
        return;
    life->reset = life->guest_reset = false;
    life->state = LIFE_RUNNING;
    machine_resume(life->machine);
}

/*
 * Reads the images, from a file system that may never answer. After a success the thread goes on as
 * vCPU 0's, which costs less than to create another one and wake it.
 */
static void *lifecycle_start_machine(void *arg)
{
    struct lifecycle *life = arg;
    int error = machine_start(life->machine);

    life->result = error;
    life->worker_ends = error;
    if (!error)
        lifecycle_enter_running(life);
    lifecycle_signal(life->worker_done.fd);
    if (!error)
        machine_run_vcpu(life->machine);
    return NULL;
}

static bool lifecycle_is_stopping(struct lifecycle *life)
{
    LOCK_SCOPE(&life->mutex);
    return life->stop;
}

static void *lifecycle_reset_machine(void *arg)
{
    struct lifecycle *life = arg;

    machine_reset(life->machine);
    if (!lifecycle_is_stopping(life)) {
        log_info("the machine is reset and starts again");
        return lifecycle_start_machine(life);
    }
    lifecycle_signal(life->worker_done.fd);
    return NULL;
}

/* Runs `work`, which may wait for the host's I/O, on a thread. Prints; -errno. */
static int lifecycle_create_worker(struct lifecycle *life, enum life_phase phase,
                                   void *(*work)(void *))
{
    int error;

    life->phase = phase;
    life->result = 0;
    life->worker_ends = true;
    error = pthread_create(&life->worker, NULL, work, life);
    if (!error)
        return 0;
    life->worker_ends = false;
    return log_error(error, "start a thread%s", seccomp_thread_hint(error));
}

/* The same; without a thread, the work is done and has failed. */
static int lifecycle_start_worker(struct lifecycle *life, enum life_phase phase,
                                  void *(*work)(void *))
{
    int error = lifecycle_create_worker(life, phase, work);

    if (!error)
        return 0;
    life->busy = "no thread";
    life->result = error;
    lifecycle_signal(life->worker_done.fd);
    return error;
}

static void lifecycle_join_worker(struct lifecycle *life)
{
    if (life->worker_ends)
        pthread_join(life->worker, NULL);
}

static void *lifecycle_run_work(void *arg)
{
    struct lifecycle *life = arg;

    life->work(life->work_owner);
    lifecycle_signal(life->worker_done.fd);
    return NULL;
}

bool lifecycle_work(struct lifecycle *life, void (*work)(void *owner), void *owner)
{
    if (life->phase != LIFE_STEADY || lifecycle_state(life) != LIFE_PAUSED)
        return false;
    life->work = work;
    life->work_owner = owner;
    if (lifecycle_create_worker(life, LIFE_WORKING, lifecycle_run_work) == 0)
        return true;
    life->phase = LIFE_STEADY;
    return false;
}

static void lifecycle_stopped(struct lifecycle *life)
{
    life->phase = LIFE_STEADY;
    lifecycle_set_state(life, LIFE_STOPPED);
    lifecycle_notify(life, LIFE_HAS_STOPPED, NULL);
}

/* A paused terminal also releases a vCPU that is blocked because its output is not read. */
static void lifecycle_pause_consoles(struct lifecycle *life, bool pause)
{
    if (life->consoles_paused == pause)
        return;
    life->consoles_paused = pause;
    if (pause)
        machine_pause_consoles(life->machine);
    else
        machine_resume_consoles(life->machine);
}

/*
 * Lets the vCPUs run and notifies of `event`, unless a stop or reset is pending: then they stay
 * parked, or are about to be. Under the mutex, so that no event of the guest's comes in between. A
 * pause that failed is over only with its notification: else it is tried again after the reset.
 */
static void lifecycle_continue(struct lifecycle *life, enum life_event event, const char *name)
{
    bool end;

    lifecycle_pause_consoles(life, false);
    {
        LOCK_SCOPE(&life->mutex);
        life->resume = false;
        end = life->stop || life->reset;
        if (!end) {
            life->pause = false;
            life->state = LIFE_RUNNING;
            machine_resume(life->machine);
        }
    }
    life->phase = end ? LIFE_PARKING : LIFE_STEADY;
    if (!end)
        lifecycle_notify(life, event, name);
}

/* A snapshot of the pending requests. */
struct life_requests {
    bool pause, resume, end; /* end: stop or reset */
    bool stop, leaving;
    uint64_t deadline_ns;
};

static struct life_requests lifecycle_requests(struct lifecycle *life)
{
    LOCK_SCOPE(&life->mutex);
    return (struct life_requests){ .pause = life->pause,
                                   .resume = life->resume,
                                   .end = life->stop || life->reset,
                                   .stop = life->stop,
                                   .leaving = life->leaving,
                                   .deadline_ns = life->deadline_ns };
}

static void lifecycle_begin_parking(struct lifecycle *life, const struct life_requests *requests)
{
    uint64_t now = clock_now_ns();

    life->phase = LIFE_PARKING;
    machine_park(life->machine);
    if (requests->end)
        return;
    lifecycle_pause_consoles(life, true);
    alarm_set(&life->deadline,
              requests->deadline_ns > now ? (requests->deadline_ns - now) / 1000000 + 1 : 1);
}

static void lifecycle_enter_paused(struct lifecycle *life)
{
    {
        LOCK_SCOPE(&life->mutex);
        life->pause = false;
        life->state = LIFE_PAUSED;
    }
    lifecycle_notify(life, LIFE_HAS_PAUSED, NULL);
}

static void lifecycle_leave_paused(struct lifecycle *life)
{
    machine_resume_devices(life->machine);
    lifecycle_continue(life, LIFE_HAS_RESUMED, NULL);
}

/* No transition is in progress. Starts one if requested: true. */
static bool lifecycle_leave_steady(struct lifecycle *life)
{
    struct life_requests requests = lifecycle_requests(life);

    switch (life->state) {
    case LIFE_RUNNING:
        if (!requests.end && !requests.pause)
            return false;
        lifecycle_begin_parking(life, &requests);
        return true;
    case LIFE_PAUSED:
        if (requests.end) {
            if (!requests.leaving)
                machine_resume_devices(life->machine); /* to end what they do, or to go on */
            life->phase = LIFE_PARKING;                /* vCPUs are */
        } else if (requests.resume) {
            lifecycle_leave_paused(life);
        } else if (requests.pause) {
            lifecycle_enter_paused(life); /* already */
        }
        return requests.end || requests.resume;
    case LIFE_BUILT:
        if (requests.stop)
            lifecycle_stopped(life);
        return false;
    default:
        return false;
    }
}

static bool lifecycle_leave_parking(struct lifecycle *life)
{
    char busy[64];
    bool parked = !machine_find_unparked(life->machine, busy, sizeof(busy));
    struct life_requests requests = lifecycle_requests(life);

    if (parked) {
        alarm_set(&life->deadline, 0);
        if (requests.end) {
            lifecycle_set_state(life, LIFE_RESETTING);
            lifecycle_pause_consoles(life, false);
            machine_stop(life->machine);
            lifecycle_start_worker(life, LIFE_CLEARING, lifecycle_reset_machine);
        } else if (requests.pause) {
            life->worker_deadline_ns = requests.deadline_ns;
            lifecycle_start_worker(life, LIFE_PAUSING, lifecycle_pause_devices);
        } else {
            lifecycle_continue(life, LIFE_HAS_RESUMED, NULL); /* the pause was cancelled */
        }
        return true;
    }
    if (requests.end || (requests.pause && clock_now_ns() < requests.deadline_ns))
        return false; /* wait on */
    alarm_set(&life->deadline, 0);
    lifecycle_continue(life, requests.pause ? LIFE_CANNOT_PAUSE : LIFE_HAS_RESUMED, busy);
    return true;
}

/* The worker has paused all devices, or has failed and resumed them. */
static void lifecycle_pause_done(struct lifecycle *life)
{
    lifecycle_join_worker(life);
    if (life->result) {
        lifecycle_continue(life, LIFE_CANNOT_PAUSE, life->busy);
        return;
    }
    life->phase = LIFE_STEADY;
    lifecycle_enter_paused(life);
}

static void lifecycle_work_done(struct lifecycle *life)
{
    lifecycle_join_worker(life);
    life->phase = LIFE_STEADY;
    lifecycle_notify(life, LIFE_HAS_WORKED, NULL);
}

/* The worker has started the machine; or not, because it failed or is to stop. */
static void lifecycle_start_done(struct lifecycle *life)
{
    bool reset = life->phase == LIFE_CLEARING;

    lifecycle_join_worker(life);
    if (lifecycle_state(life) != LIFE_RUNNING) {
        if (life->result)
            lifecycle_fail(life);
        lifecycle_stopped(life);
        return;
    }
    life->phase = LIFE_STEADY;
    if (reset)
        lifecycle_notify(life, LIFE_HAS_RESET, NULL);
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
            moved = false; /* wait for the worker */
    }
}

/* Reads an eventfd or timerfd. False: it was not ready. */
static bool lifecycle_read(struct watch *watch)
{
    uint64_t count;

    return read(watch->fd, &count, sizeof(count)) == sizeof(count);
}

static void lifecycle_requested(struct watch *watch, short revents)
{
    if (lifecycle_read(watch))
        lifecycle_advance(container_of(watch, struct lifecycle, requested));
}

static void lifecycle_parked(struct watch *watch, short revents)
{
    if (lifecycle_read(watch))
        lifecycle_advance(container_of(watch, struct lifecycle, parked));
}

static void lifecycle_deadline(struct watch *watch, short revents)
{
    if (lifecycle_read(watch))
        lifecycle_advance(container_of(watch, struct lifecycle, deadline));
}

static void lifecycle_worker_done(struct watch *watch, short revents)
{
    struct lifecycle *life = container_of(watch, struct lifecycle, worker_done);

    if (!lifecycle_read(watch))
        return;
    if (life->phase == LIFE_PAUSING)
        lifecycle_pause_done(life);
    else if (life->phase == LIFE_WORKING)
        lifecycle_work_done(life);
    else if (life->phase == LIFE_CLEARING || life->phase == LIFE_STARTING)
        lifecycle_start_done(life);
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
                                .worker_done = { .fd = -1 } };
    pthread_mutex_init(&life->mutex, NULL);
    if ((error = lifecycle_watch(life, &life->requested, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 lifecycle_requested)) ||
        (error = lifecycle_watch(life, &life->worker_done, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 lifecycle_worker_done)))
        return error;
    return alarm_open(&life->deadline, loop, lifecycle_deadline);
}

void lifecycle_finish(struct lifecycle *life)
{
    struct watch *ours[] = { &life->requested, &life->worker_done };

    if (!life->loop)
        return; /* lifecycle_init() was not called */
    for (unsigned i = 0; i < ARRAY_SIZE(ours); i++)
        if (ours[i]->fd >= 0) {
            loop_remove(life->loop, ours[i]);
            close(ours[i]->fd);
        }
    if (life->parked.ready)
        loop_remove(life->loop, &life->parked);
    alarm_close(&life->deadline, life->loop);
    pthread_mutex_destroy(&life->mutex);
}

int lifecycle_start(struct lifecycle *life)
{
    int error =
        lifecycle_watch(life, &life->parked, machine_parked_fd(life->machine), lifecycle_parked);

    if (error)
        return error;
    error = lifecycle_start_worker(life, LIFE_STARTING, lifecycle_start_machine);
    if (!error)
        machine_start_devices(life->machine);
    return error;
}
