/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_LIFECYCLE_H
#define VMM_MACHINE_LIFECYCLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/event.h"
#include "vmm/core/loop.h"

/*
 * A machine's life:
 *
 *              start              pause
 *      BUILT --------> RUNNING <---------> PAUSED
 *                       |   ^    resume      |
 *                 reset |   |                | stop, or reset
 *                       v   |                v
 *                     RESETTING ---------> STOPPED
 *                                 stop
 *
 * Requests may come from any thread and only note what is wanted; the machine's main loop brings it
 * about, and tells one client what happened. To get anywhere every vCPU must be parked, then every
 * device brought to rest or reset. Those that wait for the host do so on a thread of their own, so
 * the main loop waits neither for a vCPU nor for a disk, and vCPUs may wait for the main loop.
 *
 * A stop outdoes a reset, and a reset a pause. Of what the guest does the first counts; of requests
 * to stop, too, and until the machine has stopped a request outdoes the guest's own end. A reset or
 * stop of a paused machine needs no resume before it.
 */
struct machine;

enum life_state { LIFE_BUILT, LIFE_RUNNING, LIFE_PAUSED, LIFE_RESETTING, LIFE_STOPPED };

/* Why a machine has stopped. */
enum end_reason {
    END_GUEST,   /* by its own doing: `event` says which */
    END_REQUEST, /* lifecycle_stop(), whose `code` it has */
    END_FAILURE, /* it could not be started again; printed */
};

struct life_end {
    enum end_reason reason;
    enum guest_event event;
    unsigned code; /* of GUEST_EXIT: the guest's */
};

enum life_news {
    LIFE_HAS_PAUSED,
    LIFE_CANNOT_PAUSE, /* and runs on; the name is that of what did not come to rest in time */
    LIFE_HAS_RESUMED,
    LIFE_HAS_RESET,
    LIFE_HAS_STOPPED, /* the last thing told; see lifecycle_end() */
};

/* Told on the main loop; may make requests. */
struct life_client {
    void (*happened)(void *owner, enum life_news news, const char *name);
    void *owner;
};

struct lifecycle {
    struct machine *machine;
    struct loop *loop;
    struct life_client client;

    pthread_mutex_t mutex;           /* of the next group */
    enum life_state state;           /* written by the main loop only */
    bool restart;                    /* the guest's reset is one, not its end */
    bool pause, resume, reset, stop; /* what is wanted */
    uint64_t deadline_ns;            /* of the pause */
    struct life_end end;             /* of the stop */

    /* The main loop's. */
    enum life_phase { LIFE_STEADY, LIFE_PARKING, LIFE_PAUSING, LIFE_CLEARING } phase;
    struct watch requested;      /* an eventfd: something is wanted */
    struct watch parked, rested; /* eventfds: the vCPUs are; the worker is done */
    struct watch late;           /* a timer: the deadline has passed */
    bool consoles_held;
    pthread_t worker; /* while LIFE_PAUSING or LIFE_CLEARING */
    int result;       /* the worker's */
    uint64_t worker_deadline_ns;
    const char *busy; /* what the worker could not bring to rest */
};

/*
 * Prepares for the life of a machine that is about to be built. `events` is what to report the
 * guest's doings to. `restart`: a reset by the guest starts it again. Prints; -errno;
 * lifecycle_finish() follows in any case.
 */
int lifecycle_init(struct lifecycle *life, struct machine *machine, struct loop *loop,
                   const struct life_client *client, bool restart);
struct event_sink lifecycle_events(struct lifecycle *life);
/* With the machine stopped, or never started. Before the loop is destroyed. */
void lifecycle_finish(struct lifecycle *life);

/* Once, on the main loop's thread, after machine_create(): BUILT to RUNNING. Prints; -errno. */
int lifecycle_start(struct lifecycle *life);

/*
 * Any thread. Paused means that every vCPU is parked with its state whole, every device at rest and
 * the consoles' input held back: guest memory does not change. What does not get there within
 * `timeout_ms` makes it fail, and the machine runs on.
 */
void lifecycle_pause(struct lifecycle *life, uint64_t timeout_ms);
void lifecycle_resume(struct lifecycle *life);
void lifecycle_reset(struct lifecycle *life);
void lifecycle_stop(struct lifecycle *life, unsigned code);

/* From now on a reset by the guest is its end, or is not. Any thread. */
void lifecycle_set_restart(struct lifecycle *life, bool restart);

enum life_state lifecycle_state(struct lifecycle *life); /* any thread */
/* Why it stopped: once it has. */
const struct life_end *lifecycle_end(const struct lifecycle *life);

#endif
