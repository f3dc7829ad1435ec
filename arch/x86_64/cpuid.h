/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_CPUID_H
#define ARCH_X86_64_CPUID_H

#include <stdbool.h>
#include <stdint.h>

struct kvm_cpuid2;
struct kvm_cpuid_entry2;
struct vcpu;
struct vm;

/* For arch_ask_host(). */
int cpuid_ask_host(struct vm *vm);

/*
 * Sets the vCPU's CPUID to what the host's KVM supports, without virtualization and performance
 * counters unless `nested` and `pmu` of struct vm ask for them, with the host CPU's name and
 * caches, with its own APIC id and topology, and with the clock frequencies, so that the guest need
 * not calibrate. Prints; -errno.
 */
int cpuid_set(struct vcpu *vcpu);

/* NULL: there is no such leaf. */
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index);

/* The frequency of the vCPUs' TSC; 0: unknown. */
uint32_t cpuid_tsc_khz(const struct vm *vm);

/* Whether vCPUs can have five levels of page tables. After cpuid_ask_host(). */
bool cpuid_has_la57(const struct vm *vm);

#endif
