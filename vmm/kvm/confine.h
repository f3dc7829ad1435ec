/* SPDX-License-Identifier: MIT */
#ifndef VMM_KVM_CONFINE_H
#define VMM_KVM_CONFINE_H

#include "vmm/core/seccomp.h"

/* System calls that create, start and reset a virtual machine, besides those of the architecture.
 */
extern const struct seccomp_list kvm_rules;

/* Those of a vCPU's thread, besides arch_vcpu_rules. */
extern const struct seccomp_list vcpu_rules;

/*
 * Restricts the calling thread, of a vCPU, to these. It has no_new_privs. Prints; -errno.
 */
int vcpu_confine(void);

#endif
