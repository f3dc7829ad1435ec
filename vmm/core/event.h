/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_EVENT_H
#define VMM_CORE_EVENT_H

/* How a guest's run can end. The first event reported wins; later ones are ignored. */
enum guest_event {
    GUEST_POWER_OFF,
    GUEST_RESET,
    GUEST_EXIT,         /* the guest chose an exit code */
    GUEST_PANIC,        /* reported by its kernel */
    GUEST_TRIPLE_FAULT, /* x86: a fault while handling a double fault */
    GUEST_KVM_FAILURE,  /* KVM_RUN failed; the vCPU's state was printed */
};

/* Where devices and vCPUs report such an event, on any thread. Passed by value. */
struct event_sink {
    void (*report)(void *owner, enum guest_event event, unsigned code);
    void *owner;
};

/* `code` is the exit code of GUEST_EXIT; ignored for other events. */
static inline void event_report(const struct event_sink *sink, enum guest_event event,
                                unsigned code)
{
    sink->report(sink->owner, event, code);
}

#endif
