/* SPDX-License-Identifier: MIT */
#include <linux/kvm.h>
#include <sys/syscall.h>

#include "vmm/core/base.h"
#include "vmm/kvm/arch.h"

static const struct seccomp_rule machine_table[] = {
    SECCOMP_IOCTL(KVM_ENABLE_CAP, "no performance counters"),
    SECCOMP_IOCTL(KVM_CREATE_IRQCHIP, "a start, a reset"),
    SECCOMP_IOCTL(KVM_SET_IRQCHIP, "the same"),
    SECCOMP_IOCTL(KVM_SET_TSS_ADDR, "the same"),
    SECCOMP_IOCTL(KVM_GET_SUPPORTED_CPUID, "the same"),
    SECCOMP_IOCTL(KVM_GET_CPUID2, "the same"),
    SECCOMP_IOCTL(KVM_SET_CPUID2, "the same"),
    SECCOMP_IOCTL(KVM_GET_TSC_KHZ, "the same"),
    SECCOMP_IOCTL(KVM_SET_MSRS, "the same"),
    SECCOMP_IOCTL(KVM_GET_LAPIC, "the same"),
    SECCOMP_IOCTL(KVM_SET_LAPIC, "the same"),
    SECCOMP_IOCTL(KVM_SET_SREGS, "the same"),
    SECCOMP_IOCTL(KVM_SET_REGS, "the same"),
};

const struct seccomp_list arch_rules = { machine_table, ARRAY_SIZE(machine_table) };

static const struct seccomp_rule vcpu_table[] = {
    SECCOMP_IOCTL(KVM_GET_REGS, "the registers of a vCPU that KVM cannot run"),
    SECCOMP_IOCTL(KVM_GET_SREGS, "the same"),
    SECCOMP_IOCTL(KVM_TRANSLATE, "the code there"),
};

const struct seccomp_list arch_vcpu_rules = { vcpu_table, ARRAY_SIZE(vcpu_table) };
