/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_VCPU_H
#define ARCH_AARCH64_VCPU_H

#include <stdbool.h>

#include "vmm/core/memory.h"

struct vcpu;
struct vm;

/* Sets the vCPU's program counter and X0. Prints; -errno. */
int vcpu_set_entry(struct vcpu *vcpu, gpa_t pc, gpa_t x0);

/* A register of up to 64 bits. 0: KVM does not have it. */
uint64_t vcpu_register(const struct vcpu *vcpu, uint64_t id);

/* Is the guest to have a PMU (performance counters), and can the host give it one? */
bool vcpu_has_pmu(const struct vm *vm);
/* Initializes the PMU, if there is one; after the GIC. Prints; -errno. */
int vcpu_init_pmu(struct vcpu *vcpu);

#endif
