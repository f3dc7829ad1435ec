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

static const struct seccomp_rule save_table[] = {
    SECCOMP_IOCTL(KVM_GET_MP_STATE, "a snapshot"),
    SECCOMP_IOCTL(KVM_GET_REGS, "the same"),
    SECCOMP_IOCTL(KVM_GET_SREGS2, "the same"),
    SECCOMP_IOCTL(KVM_GET_XSAVE, "the same"),
    SECCOMP_IOCTL(KVM_GET_XSAVE2, "the same"),
    SECCOMP_IOCTL(KVM_GET_XCRS, "the same"),
    SECCOMP_IOCTL(KVM_GET_DEBUGREGS, "the same"),
    SECCOMP_IOCTL(KVM_GET_LAPIC, "the same"),
    SECCOMP_IOCTL(KVM_GET_CPUID2, "the same"),
    SECCOMP_IOCTL(KVM_GET_MSR_INDEX_LIST, "the same"),
    SECCOMP_IOCTL(KVM_GET_MSRS, "the same"),
    SECCOMP_IOCTL(KVM_GET_DEVICE_ATTR, "the same"),
    SECCOMP_IOCTL(KVM_GET_VCPU_EVENTS, "the same"),
    SECCOMP_IOCTL(KVM_GET_IRQCHIP, "the same"),
    SECCOMP_IOCTL(KVM_GET_CLOCK, "the same"),
};

const struct seccomp_list arch_save_rules = { save_table, ARRAY_SIZE(save_table) };

static const struct seccomp_rule load_table[] = {
    SECCOMP_IOCTL(KVM_SET_MP_STATE, "the start from a snapshot"),
    SECCOMP_IOCTL(KVM_SET_SREGS2, "the same"),
    SECCOMP_IOCTL(KVM_SET_XSAVE, "the same"),
    SECCOMP_IOCTL(KVM_SET_XCRS, "the same"),
    SECCOMP_IOCTL(KVM_SET_DEBUGREGS, "the same"),
    SECCOMP_IOCTL(KVM_GET_MSRS, "the same"),
    SECCOMP_IOCTL(KVM_GET_DEVICE_ATTR, "the same"),
    SECCOMP_IOCTL(KVM_SET_DEVICE_ATTR, "the same"),
    SECCOMP_IOCTL(KVM_SET_VCPU_EVENTS, "the same"),
    SECCOMP_IOCTL(KVM_SET_CLOCK, "the same"),
    SECCOMP_IOCTL(KVM_KVMCLOCK_CTRL, "the same"),
    SECCOMP_IOCTL(KVM_GET_CPUID2, "the start from a snapshot of another host"),
    SECCOMP_IOCTL(KVM_GET_SUPPORTED_CPUID, "the same; the first reset after it"),
    SECCOMP_IOCTL(KVM_SET_TSC_KHZ, "the same, at another frequency"),
};

const struct seccomp_list arch_load_rules = { load_table, ARRAY_SIZE(load_table) };
