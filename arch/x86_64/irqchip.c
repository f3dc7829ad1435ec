/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>

#include "arch/x86_64/layout.h"
#include "vmm/arch.h"
#include "vmm/cleanup.h"
#include "vmm/log.h"
#include "vmm/vm.h"

unsigned long arch_vm_type(const struct vm *vm)
{
    return 0;
}

/* Local APICs and the I/O APIC in the kernel. No PIT: a hardware-reduced guest has other clocks. */
int arch_vm_init(struct vm *vm)
{
    if (vm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)KVM_TSS_BASE) < 0)
        return log_error(errno, "place KVM's task state segment");
    if (vm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL) < 0)
        return log_error(errno, "create the interrupt controllers");
    return 0;
}

/*
 * Interrupt n reaches pin n of the I/O APIC and nothing else. KVM's own table would also feed the
 * two 8259s, which no guest of ours programs, and which would then raise whatever vector they like.
 */
int arch_vm_complete(struct vm *vm)
{
    cleanup_free struct kvm_irq_routing *routing =
        calloc(1, sizeof(*routing) + IOAPIC_PINS * sizeof(routing->entries[0]));

    if (!routing)
        return log_error(ENOMEM, "route interrupts");
    routing->nr = IOAPIC_PINS;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        routing->entries[pin] = (struct kvm_irq_routing_entry){
            .gsi = pin,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin },
        };
    if (vm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, routing) < 0)
        return log_error(errno, "route interrupts");
    return 0;
}

uint32_t arch_irq_line(uint32_t gsi)
{
    return gsi;
}
