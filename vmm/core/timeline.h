/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_TIMELINE_H
#define VMM_CORE_TIMELINE_H

#include <stdint.h>

#include "vmm/core/clock.h"

/* Where the time of a start goes: when each of its steps was done. */
enum phase {
    PHASE_BEGIN, /* the command line is read */
    PHASE_MEMORY,
    PHASE_KVM,
    PHASE_DEVICES,
    PHASE_VM,
    PHASE_SLOTS,
    PHASE_IRQCHIP,
    PHASE_VCPUS,
    PHASE_IMAGE,
    PHASE_THREADS,
    PHASE_ENTRY, /* the first vCPU is about to enter the guest */
    PHASE_EXIT,  /* and back for the first time */
    PHASE_COUNT,
};

struct timeline {
    uint64_t done_ns[PHASE_COUNT]; /* CLOCK_MONOTONIC; 0: not yet */
};

/* Only the first time counts: a reset is no start. Each phase belongs to one thread. */
static inline void timeline_mark(struct timeline *timeline, enum phase phase)
{
    if (!timeline->done_ns[phase])
        timeline->done_ns[phase] = clock_now_ns();
}

#endif
