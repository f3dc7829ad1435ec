/* SPDX-License-Identifier: MIT */
#include "arch/aarch64/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "firmware/tables/fdt.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

#define PSTATE_EL1H_MASKED 0x3c5 /* EL1h; debug, SError, IRQ, FIQ masked */
#define SCTLR_MMU          1u

#define CORE_REG(member)                                   \
    (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | \
     (offsetof(struct kvm_regs, member) / sizeof(uint32_t)))
#define SYS_REG(op1, crn, crm, op2) ARM64_SYS_REG(3, op1, crn, crm, op2)

static bool vcpu_check_extension(const struct vm *vm, unsigned capability)
{
    return ioctl(vm->fd, KVM_CHECK_EXTENSION, capability) > 0;
}

bool vcpu_has_pmu(const struct vm *vm)
{
    return vm->pmu && vcpu_check_extension(vm, KVM_CAP_ARM_PMU_V3);
}

static void vcpu_add_feature(struct kvm_vcpu_init *init, unsigned feature)
{
    init->features[feature / 32] |= 1u << feature % 32;
}

/*
 * The guest maps registers as device memory. Without FEAT_S2FWB its reads bypass the caches, where
 * our write may still be.
 */
void arch_clean_shadow(const void *word)
{
    __asm__ volatile("dc cvac, %0\n\tdsb sy" ::"r"(word) : "memory");
}

int arch_ask_host(struct vm *vm)
{
    return 0;
}

/* The host's CPU type. Secondary vCPUs wait until the guest starts them by PSCI. */
int arch_vcpu_init(struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;
    struct kvm_vcpu_init init;

    if (vm->nested)
        return log_refuse(ENOTSUP, "--cpus: nested: not on this architecture");
    if (vm->pmu && !vcpu_has_pmu(vm))
        return log_refuse(ENOTSUP, "--cpus: pmu: this host's KVM does not offer it");
    if (vm_ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init) < 0)
        return log_error(errno, "ask KVM for the kind of vCPU");
    vcpu_add_feature(&init, KVM_ARM_VCPU_PSCI_0_2);
    if (vcpu->index > 0)
        vcpu_add_feature(&init, KVM_ARM_VCPU_POWER_OFF);
    if (vcpu_has_pmu(vm))
        vcpu_add_feature(&init, KVM_ARM_VCPU_PMU_V3);
    if (vcpu_check_extension(vm, KVM_CAP_ARM_PTRAUTH_ADDRESS) &&
        vcpu_check_extension(vm, KVM_CAP_ARM_PTRAUTH_GENERIC)) {
        vcpu_add_feature(&init, KVM_ARM_VCPU_PTRAUTH_ADDRESS);
        vcpu_add_feature(&init, KVM_ARM_VCPU_PTRAUTH_GENERIC);
    }
    if (vm_ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init) < 0)
        return log_error(errno, "vCPU %u: initialize", vcpu->index);
    return 0;
}

static int vcpu_set_pmu(const struct vcpu *vcpu, uint64_t attribute, void *value)
{
    struct kvm_device_attr attr = { .group = KVM_ARM_VCPU_PMU_V3_CTRL,
                                    .attr = attribute,
                                    .addr = (uintptr_t)value };

    if (vm_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr) < 0)
        return log_error(errno, "vCPU %u: set up performance counters", vcpu->index);
    return 0;
}

int vcpu_init_pmu(struct vcpu *vcpu)
{
    int interrupt = FDT_PMU_INTERRUPT;
    int error;

    if (!vcpu_has_pmu(vcpu->vm))
        return 0;
    error = vcpu_set_pmu(vcpu, KVM_ARM_VCPU_PMU_V3_IRQ, &interrupt);
    return error ? error : vcpu_set_pmu(vcpu, KVM_ARM_VCPU_PMU_V3_INIT, NULL);
}

static int vcpu_set_register(const struct vcpu *vcpu, uint64_t id, uint64_t value)
{
    struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

    return vm_ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
}

int vcpu_set_entry(struct vcpu *vcpu, gpa_t pc, gpa_t x0)
{
    if (vcpu_set_register(vcpu, CORE_REG(regs.pc), pc) < 0 ||
        vcpu_set_register(vcpu, CORE_REG(regs.regs[0]), x0) < 0 ||
        vcpu_set_register(vcpu, CORE_REG(regs.pstate), PSTATE_EL1H_MASKED) < 0)
        return log_error(errno, "vCPU %u: set registers", vcpu->index);
    return 0;
}

/* PSCI's SYSTEM_RESET2; KVM reports it apart from SYSTEM_RESET since Linux 5.18. */
bool arch_reset_is_warm(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        const struct kvm_run *run = vm->vcpus[i].run;

        if (run->exit_reason == KVM_EXIT_SYSTEM_EVENT &&
            run->system_event.type == KVM_SYSTEM_EVENT_RESET && run->system_event.ndata > 0 &&
            run->system_event.data[0] & KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2)
            return true;
    }
    return false;
}

/*
 * KVM could not decode an access outside RAM. Injects an external abort, as a real bus does where
 * there is no device.
 */
bool arch_vcpu_exit(struct vcpu *vcpu)
{
    struct kvm_vcpu_events events = { .exception.ext_dabt_pending = 1 };

    return vcpu->run->exit_reason == KVM_EXIT_ARM_NISV &&
           vm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events) == 0;
}

uint64_t vcpu_register(const struct vcpu *vcpu, uint64_t id)
{
    uint64_t value = 0;
    struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

    vm_ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg);
    return value;
}

/* Logs the instructions at the program counter, if the MMU is off and they lie in RAM. */
static void vcpu_dump_code(const struct vcpu *vcpu, uint64_t pc)
{
    char text[4 * 9 + 1] = "not shown, the MMU is on";
    uint32_t code[4];

    if (!(vcpu_register(vcpu, SYS_REG(0, 1, 0, 0)) & SCTLR_MMU)) {
        snprintf(text, sizeof(text), "not in RAM");
        if (guest_read(vcpu->vm->mem, pc, code, sizeof(code)) == 0)
            snprintf(text, sizeof(text), "%08x %08x %08x %08x", code[0], code[1], code[2], code[3]);
    }
    log_refuse(EIO, "  code at pc: %s", text);
}

void arch_vcpu_dump(struct vcpu *vcpu)
{
    uint64_t pc = vcpu_register(vcpu, CORE_REG(regs.pc));

    log_refuse(EIO, "  pc  %016llx pstate %08llx sp %016llx", (unsigned long long)pc,
               (unsigned long long)vcpu_register(vcpu, CORE_REG(regs.pstate)),
               (unsigned long long)vcpu_register(vcpu, CORE_REG(sp_el1)));
    for (unsigned i = 0; i < 31; i += 3) {
        uint64_t x[3];

        for (unsigned j = 0; j < 3; j++)
            x[j] = vcpu_register(vcpu, CORE_REG(regs.regs[0]) + 2 * (i + j));
        log_refuse(EIO, "  x%-2u %016llx x%-2u %016llx x%-2u %016llx", i, (unsigned long long)x[0],
                   i + 1, (unsigned long long)x[1], i + 2, (unsigned long long)x[2]);
    }
    log_refuse(EIO, "  esr %08llx far %016llx elr %016llx",
               (unsigned long long)vcpu_register(vcpu, SYS_REG(0, 5, 2, 0)),
               (unsigned long long)vcpu_register(vcpu, SYS_REG(0, 6, 0, 0)),
               (unsigned long long)vcpu_register(vcpu, CORE_REG(elr_el1)));
    vcpu_dump_code(vcpu, pc);
}
