/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_EVENT_H
#define VMM_CORE_EVENT_H

/* What can become of a guest. The first one reported decides; later ones are ignored. */
enum guest_event {
    GUEST_POWER_OFF,
    GUEST_RESET,
    GUEST_EXIT,         /* the guest chose an exit code */
    GUEST_PANIC,        /* its kernel said so */
    GUEST_TRIPLE_FAULT, /* x86: a fault while handling a double fault */
    GUEST_KVM_FAILURE,  /* KVM could not go on; the vCPU's state was printed */
};

/* Where devices and vCPUs report it. A value, like struct irq_line. Any thread. */
struct event_sink {
    void (*report)(void *owner, enum guest_event event, unsigned code);
    void *owner;
};

/* `code` is the exit code with GUEST_EXIT and means nothing otherwise. */
static inline void event_report(const struct event_sink *sink, enum guest_event event,
                                unsigned code)
{
    sink->report(sink->owner, event, code);
}

#endif
