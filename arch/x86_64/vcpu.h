/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_VCPU_H
#define ARCH_X86_64_VCPU_H

struct boot_entry;
struct vcpu;

/* Sets the first vCPU's registers as its boot protocol wants them. Prints; -errno. */
int vcpu_enter(struct vcpu *vcpu, const struct boot_entry *entry);

#endif
