/* SPDX-License-Identifier: MIT */
#ifndef ARCH_AARCH64_VCPU_H
#define ARCH_AARCH64_VCPU_H

#include <stdbool.h>

#include "vmm/core/memory.h"

struct vcpu;
struct vm;

/* Where the first vCPU starts, and what X0 holds then. Prints; -errno. */
int vcpu_enter(struct vcpu *vcpu, gpa_t pc, gpa_t x0);

/* Does the host lend its performance counters? They start once the GIC is ready. Prints; -errno. */
bool vcpu_has_counters(const struct vm *vm);
int vcpu_start_counters(struct vcpu *vcpu);

#endif
