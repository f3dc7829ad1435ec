/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_CPUID_CHECK_H
#define ARCH_X86_64_CPUID_CHECK_H

struct kvm_cpuid2;
struct state;

/*
 * Whether a guest that was `shown` this CPUID can go on where a new one gets the CPUID `here`. KVM
 * takes any table, and the guest fails later, at an instruction that the CPU does not have. Sets
 * the error of `s`, with the names of what is missing, as in /proc/cpuinfo. Changes nothing.
 */
void cpuid_check(struct kvm_cpuid2 *shown, struct kvm_cpuid2 *here, struct state *s);

#endif
