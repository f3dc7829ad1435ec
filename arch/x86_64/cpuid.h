/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_CPUID_H
#define ARCH_X86_64_CPUID_H

struct vcpu;

/*
 * Gives the vCPU what the host's KVM supports, corrected for what differs per vCPU (APIC id,
 * topology) and with the clock frequencies, so that the guest calibrates nothing. Prints; -errno.
 */
int cpuid_set(struct vcpu *vcpu);

#endif
