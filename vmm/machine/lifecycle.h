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
 *        |              |   ^    resume      |
 *        |     reset or |   | started        | reset or stop
 *        |     stop     v   | again          |
 *        |            RESETTING <------------+
 *        | stop         | stop, or the restart failed
 *        +--------> STOPPED
 *
 * A request may come from any thread and is only recorded. The main loop carries it out and
 * notifies one client of the result. Every transition first parks all vCPUs, then pauses or resets
 * all devices. The latter may wait for the host's I/O, and so may a start, which reads the images.
 * So both run on a worker thread, which after a start becomes vCPU 0's: the main loop waits neither
 * for a vCPU nor for a file, and vCPUs may wait for the main loop.
 *
 * A stop overrides a reset, and a reset overrides a pause. The guest's first event wins, and so
 * does the first request to stop; until the machine has stopped, a request to stop overrides the
 * guest's event. A paused machine can be reset or stopped without a resume.
 */
struct machine;

enum life_state {
    LIFE_BUILT,
    LIFE_RUNNING,
    LIFE_PAUSED,
    LIFE_RESETTING, /* vCPUs have ended, devices are being reset: before a restart or STOPPED */
    LIFE_STOPPED,
};

/* Why a machine has stopped. */
enum end_reason {
    END_GUEST,   /* by the guest: see `event` */
    END_REQUEST, /* by lifecycle_stop(), with its `code` */
    END_FAILURE, /* the start or a reset failed; printed */
};

struct life_end {
    enum end_reason reason;
    enum guest_event event;
    unsigned code;   /* of lifecycle_stop() or GUEST_EXIT */
    bool warm_reset; /* of GUEST_RESET and GUEST_TRIPLE_FAULT: arch_reset_is_warm() */
};

enum life_event {
    LIFE_HAS_PAUSED,
    LIFE_CANNOT_PAUSE, /* timed out, the machine runs on; `name` is the vCPU or device at fault */
    LIFE_HAS_RESUMED,
    LIFE_HAS_WORKED, /* see lifecycle_work() */
    LIFE_HAS_RESET,
    LIFE_HAS_STOPPED, /* the last event; see lifecycle_end() */
};

/* Notified on the main loop. on_event() may make requests. */
struct life_client {
    void (*on_event)(void *owner, enum life_event event, const char *name);
    void *owner;
};

struct lifecycle {
    struct machine *machine;
    struct loop *loop;
    struct life_client client;

    pthread_mutex_t mutex;           /* protects this group */
    enum life_state state;           /* written by the main loop, and by its worker */
    bool restart;                    /* GUEST_RESET resets the machine rather than stopping it */
    bool pause, resume, reset, stop; /* pending requests */
    bool guest_reset;                /* `reset` is the guest's own */
    bool leaving;                    /* `stop` is lifecycle_leave()'s */
    uint64_t deadline_ns;            /* of `pause` */
    struct life_end end;             /* of `stop` */

    /* Used by the main loop only. */
    enum life_phase {
        LIFE_STEADY,
        LIFE_PARKING,
        LIFE_PAUSING,
        LIFE_WORKING,
        LIFE_CLEARING,
        LIFE_STARTING,
    } phase;
    struct watch requested;   /* eventfd: there is a new request */
    struct watch parked;      /* eventfd: all vCPUs are parked */
    struct watch worker_done; /* eventfd */
    struct watch deadline;    /* a timer, for a pause */
    bool consoles_paused;
    pthread_t worker;         /* in every phase but LIFE_STEADY and LIFE_PARKING */
    bool worker_ends;         /* to be joined; else it is vCPU 0's thread, or there is none */
    int result;               /* of the worker */
    void (*work)(void *work); /* while LIFE_WORKING */
    void *work_owner;
    uint64_t worker_deadline_ns;
    const char *busy; /* the device that the worker could not pause */
};

/*
 * Before the machine is created. `restart`: a reset by the guest starts it again. Prints; -errno.
 * lifecycle_finish() must follow even after an error.
 */
int lifecycle_init(struct lifecycle *life, struct machine *machine, struct loop *loop,
                   const struct life_client *client, bool restart);
/* Where devices and vCPUs report guest events. */
struct event_sink lifecycle_events(struct lifecycle *life);
/* After the machine has stopped, or without a start. Before the loop is destroyed. */
void lifecycle_finish(struct lifecycle *life);

/*
 * BUILT to RUNNING. Once, on the main loop's thread, after machine_create(). Prints; -errno. A
 * failure later, while the loop runs, is notified as LIFE_HAS_STOPPED.
 */
int lifecycle_start(struct lifecycle *life);

/*
 * Requests, from any thread. In a paused machine every vCPU is parked, every device paused and
 * console input stopped: guest memory does not change. If that takes longer than `timeout_ms`, the
 * pause fails and the machine runs on.
 */
void lifecycle_pause(struct lifecycle *life, uint32_t timeout_ms);
void lifecycle_resume(struct lifecycle *life);

/*
 * In a paused machine, on the main loop: runs `work`, which may wait for the host, on a thread, and
 * notifies LIFE_HAS_WORKED when it returns. Until then all requests wait. False, and nothing
 * happens: the machine is not paused, is working already, or the host has no thread for it.
 */
bool lifecycle_work(struct lifecycle *life, void (*work)(void *owner), void *owner);
void lifecycle_reset(struct lifecycle *life);
void lifecycle_stop(struct lifecycle *life, unsigned code);

/*
 * The same, with code 0, of a paused machine that goes on elsewhere: its devices do nothing more,
 * as what the guest has asked them is done there.
 */
void lifecycle_leave(struct lifecycle *life);

/*
 * The same of a paused machine that cannot go on: it ends like one that could not be started. A
 * request to stop overrides the failure.
 */
void lifecycle_fail(struct lifecycle *life);

/* Sets whether a reset by the guest starts it again, or stops the machine. Any thread. */
void lifecycle_set_restart(struct lifecycle *life, bool restart);

enum life_state lifecycle_state(struct lifecycle *life); /* any thread */
/* Why the machine stopped. Valid once it has. */
const struct life_end *lifecycle_end(const struct lifecycle *life);

#endif
