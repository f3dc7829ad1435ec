/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "arch/x86_64/layout.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vm.h"

const char *arch_kvm_hint(void)
{
    return "load kvm_intel or kvm_amd, and switch virtualization on in the firmware";
}

unsigned long arch_vm_type(const struct vm *vm)
{
    return 0;
}

/*
 * KVM's default GSI routing drives the two 8259s as well as the I/O APIC. Our guests do not program
 * the 8259s, so mask all inputs, as firmware does: otherwise they raise arbitrary vectors. Routes
 * of our own would cost more time: KVM_SET_GSI_ROUTING waits for an SRCU grace period.
 */
static int irqchip_mask_8259(const struct vm *vm, uint32_t chip)
{
    struct kvm_irqchip state = { .chip_id = chip };

    state.chip.pic.imr = 0xff;
    return vm_ioctl(vm->fd, KVM_SET_IRQCHIP, &state);
}

/* Local APICs and I/O APIC in the kernel. No PIT: hardware-reduced ACPI guests do not need one. */
/* Beyond what CPUID hides: AMD's first counters are there whatever it says. Since Linux 5.18. */
static void vm_disable_pmu(const struct vm *vm)
{
    struct kvm_enable_cap cap = { .cap = KVM_CAP_PMU_CAPABILITY, .args = { KVM_PMU_CAP_DISABLE } };

    if (vm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0)
        log_debug("no performance counters to disable: %s", strerror(errno));
}

int arch_vm_init(struct vm *vm)
{
    if (!vm->pmu)
        vm_disable_pmu(vm);
    if (vm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)KVM_TSS_BASE) < 0)
        return log_error(errno, "place KVM's task state segment");
    if (vm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL) < 0)
        return log_error(errno, "create the interrupt controllers");
    if (irqchip_mask_8259(vm, KVM_IRQCHIP_PIC_MASTER) < 0 ||
        irqchip_mask_8259(vm, KVM_IRQCHIP_PIC_SLAVE) < 0)
        return log_error(errno, "mask the 8259s");
    return 0;
}

int arch_vm_complete(struct vm *vm)
{
    return 0;
}

uint32_t arch_irq_line(uint32_t gsi)
{
    return gsi;
}
