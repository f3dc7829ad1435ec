/* SPDX-License-Identifier: MIT */
#ifndef ARCH_X86_64_VCPU_H
#define ARCH_X86_64_VCPU_H

struct boot_entry;
struct vcpu;

/* Sets the vCPU's registers as the boot protocol requires. Prints; -errno. */
int vcpu_set_entry(struct vcpu *vcpu, const struct boot_entry *entry);

#endif
