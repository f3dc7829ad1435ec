/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_TIMELINE_H
#define VMM_CORE_TIMELINE_H

#include <stdint.h>

#include "vmm/core/clock.h"

/* The steps of a start. Each is marked when it is done, for --stats. */
enum phase {
    PHASE_BEGIN, /* the command line has been read */
    PHASE_MEMORY,
    PHASE_KVM,
    PHASE_DEVICES,
    PHASE_VM,
    PHASE_SLOTS,
    PHASE_IRQCHIP,
    PHASE_VCPUS,
    PHASE_SANDBOX, /* done meanwhile; shows how long it was waited for */
    PHASE_IMAGE,
    PHASE_THREADS,
    PHASE_ENTRY, /* the first vCPU is about to enter the guest */
    PHASE_EXIT,  /* its first exit */
    PHASE_COUNT,
};

struct timeline {
    uint64_t done_ns[PHASE_COUNT]; /* CLOCK_MONOTONIC; 0: not yet */
};

/* Keeps the first time only: later calls are of a reset. Each phase is marked by one thread. */
static inline void timeline_mark(struct timeline *timeline, enum phase phase)
{
    if (!timeline->done_ns[phase])
        timeline->done_ns[phase] = clock_now_ns();
}

#endif
