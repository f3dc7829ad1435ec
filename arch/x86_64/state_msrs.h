/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_STATE_MSRS_H
#define ARCH_X86_64_STATE_MSRS_H

#include <stdbool.h>
#include <stdint.h>

/* A vCPU's model-specific registers, as saved and loaded. */
struct state;

#define MAX_MSRS 1024

/* Which MSRs this KVM has. */
struct msr_indexes {
    unsigned count;
    uint32_t index[MAX_MSRS];
};

struct msr {
    uint32_t index;
    uint64_t data;
};

struct msr_list {
    uint64_t tsc, deadline; /* IA32_TSC, IA32_TSC_DEADLINE: not in the list below */
    uint32_t count;
    struct msr msrs[MAX_MSRS];
};

/* Asks KVM, which takes half a millisecond. False: out of memory. */
bool msrs_list(int kvm, struct msr_indexes *ret);

/* Reads those that the vCPU has. Errors are the state's, as in all of these. */
void msrs_get(int vcpu, const struct msr_indexes *indexes, struct msr_list *ret, struct state *s);

/* The fields; loading: fills `list`. */
void msrs_state(struct msr_list *list, struct state *s);

/*
 * Sets those that differ, in the list's order, and the TSC to `tsc`. Reading first leaves out
 * registers that can be read but not written. One that KVM refuses is an error.
 */
void msrs_set(int vcpu, const struct msr_list *list, uint64_t tsc, struct state *s);

/*
 * Makes KVM take the TSC that the first vCPU gets next as it is. One within a second of what the
 * machine's TSC would be anyway, which begins at 0 with it, KVM takes for an attempt to synchronize
 * vCPUs, and leaves the TSC as it is: the TSC of a guest that ran for less than a second would go
 * back. Linux 6.7 and later do so only after a first value. The next vCPUs' are to be synchronized.
 */
void msrs_begin_tsc(int vcpu, uint64_t tsc, struct state *s);

/* Whether they are still as they were set, all but the TSC: what differs is an error. */
void msrs_compare(int vcpu, const struct msr_list *list, struct state *s);

/* The TSC's deadline, after the TSC and the local APIC. */
void msrs_set_deadline(int vcpu, const struct msr_list *list, struct state *s);
void msrs_clear_deadline(int vcpu, struct state *s);

#endif
