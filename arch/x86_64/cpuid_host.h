/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_CPUID_HOST_H
#define ARCH_X86_64_CPUID_HOST_H

struct kvm_cpuid_entry2;

/* Executes CPUID for the entry's function and index. Its own file: a test replaces it. */
void cpuid_read_host(struct kvm_cpuid_entry2 *entry);

#endif
