/* SPDX-License-Identifier: MIT */
#include <linux/kvm.h>
#include <sys/syscall.h>

#include "vmm/core/base.h"
#include "vmm/kvm/arch.h"

static const struct seccomp_rule machine_table[] = {
    SECCOMP_IOCTL(KVM_ENABLE_CAP, "a start, a reset"),
    SECCOMP_IOCTL(KVM_CREATE_DEVICE, "the interrupt controller"),
    SECCOMP_IOCTL(KVM_SET_DEVICE_ATTR, "the same; the PMU"),
    SECCOMP_IOCTL(KVM_ARM_PREFERRED_TARGET, "a start, a reset"),
    SECCOMP_IOCTL(KVM_ARM_VCPU_INIT, "the same"),
    SECCOMP_IOCTL(KVM_SET_ONE_REG, "the same"),
};

const struct seccomp_list arch_rules = { machine_table, ARRAY_SIZE(machine_table) };

static const struct seccomp_rule vcpu_table[] = {
    SECCOMP_IOCTL(KVM_SET_VCPU_EVENTS, "an access that KVM cannot emulate"),
    SECCOMP_IOCTL(KVM_GET_ONE_REG, "the registers of a vCPU that KVM cannot run"),
};

const struct seccomp_list arch_vcpu_rules = { vcpu_table, ARRAY_SIZE(vcpu_table) };

static const struct seccomp_rule save_table[] = {
    SECCOMP_IOCTL(KVM_GET_REG_LIST, "a snapshot"),  SECCOMP_IOCTL(KVM_GET_ONE_REG, "the same"),
    SECCOMP_IOCTL(KVM_GET_VCPU_EVENTS, "the same"), SECCOMP_IOCTL(KVM_GET_MP_STATE, "the same"),
    SECCOMP_IOCTL(KVM_GET_DEVICE_ATTR, "the same"),
};

const struct seccomp_list arch_save_rules = { save_table, ARRAY_SIZE(save_table) };

static const struct seccomp_rule load_table[] = {
    SECCOMP_IOCTL(KVM_GET_ONE_REG, "the start from a snapshot"),
    SECCOMP_IOCTL(KVM_SET_VCPU_EVENTS, "the same"),
    SECCOMP_IOCTL(KVM_SET_MP_STATE, "the same"),
};

const struct seccomp_list arch_load_rules = { load_table, ARRAY_SIZE(load_table) };
