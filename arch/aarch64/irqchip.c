/* SPDX-License-Identifier: MIT */
#include "arch/aarch64/irqchip.h"

#include <errno.h>
#include <linux/kvm.h>

#include "arch/aarch64/layout.h"
#include "arch/aarch64/vcpu.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

#define DEFAULT_IPA_BITS 40

const char *arch_kvm_hint(void)
{
    return "start the host's kernel at EL2, and build it with CONFIG_KVM";
}

/* The width of guest-physical addresses: KVM's default, or more if RAM needs it. */
unsigned long arch_vm_type(const struct vm *vm)
{
    int most = vm_ioctl(vm->kvm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_ARM_VM_IPA_SIZE);
    const struct ram_region *ram = guest_memory_region(vm->mem, 0);
    gpa_t last = ram->base + ram->size - 1;
    unsigned bits = DEFAULT_IPA_BITS;

    if (most <= 0)
        return 0; /* this KVM has a fixed width */
    while (last >> bits)
        bits++;
    return KVM_VM_TYPE_ARM_IPA_SIZE(bits > (unsigned)most ? (unsigned)most : bits);
}

/* Accesses that KVM cannot decode exit instead of failing KVM_RUN: see arch_vcpu_exit(). */
int arch_vm_init(struct vm *vm)
{
    struct kvm_enable_cap cap = { .cap = KVM_CAP_ARM_NISV_TO_USER };

    vm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap); /* older hosts lack it */
    return 0;
}

static int irqchip_create(const struct vm *vm, uint32_t type, uint32_t flags)
{
    struct kvm_create_device device = { .type = type, .flags = flags };

    return vm_ioctl(vm->fd, KVM_CREATE_DEVICE, &device) < 0 ? -errno : (int)device.fd;
}

unsigned irqchip_version(const struct vm *vm)
{
    return irqchip_create(vm, KVM_DEV_TYPE_ARM_VGIC_V3, KVM_CREATE_DEVICE_TEST) < 0 ? 2 : 3;
}

static int irqchip_set(int gic, uint32_t group, uint64_t attribute, void *value)
{
    struct kvm_device_attr attr = { .group = group, .attr = attribute, .addr = (uintptr_t)value };

    if (vm_ioctl(gic, KVM_SET_DEVICE_ATTR, &attr) < 0)
        return log_error(errno, "set up the interrupt controller");
    return 0;
}

static int irqchip_place(int gic, unsigned version)
{
    uint64_t dist = GIC_DIST_BASE, cpus = version == 3 ? GIC_REDIST_BASE : GIC_CPU_BASE;
    uint64_t dist_type = version == 3 ? KVM_VGIC_V3_ADDR_TYPE_DIST : KVM_VGIC_V2_ADDR_TYPE_DIST;
    uint64_t cpus_type = version == 3 ? KVM_VGIC_V3_ADDR_TYPE_REDIST : KVM_VGIC_V2_ADDR_TYPE_CPU;
    int error = irqchip_set(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, dist_type, &dist);

    return error ? error : irqchip_set(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, cpus_type, &cpus);
}

/* The GIC is initialized after all vCPUs are created, and the PMUs after the GIC. */
int arch_vm_complete(struct vm *vm)
{
    unsigned version = irqchip_version(vm);
    int gic =
        irqchip_create(vm, version == 3 ? KVM_DEV_TYPE_ARM_VGIC_V3 : KVM_DEV_TYPE_ARM_VGIC_V2, 0);
    uint32_t interrupts = FIRST_SPI + GIC_SPIS;
    int error;

    if (gic < 0)
        return log_error(-gic, "create the interrupt controller");
    vm->irqchip = gic;
    if (version == 2 && vm->vcpu_count > MAX_CPUS_V2)
        return log_refuse(EINVAL, "--cpus: this host's interrupt controller serves at most %d",
                          MAX_CPUS_V2);
    if ((error = irqchip_place(gic, version)) ||
        (error = irqchip_set(gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts)) ||
        (error = irqchip_set(gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL)))
        return error;
    for (unsigned i = 0; i < vm->vcpu_count && !error; i++)
        error = vcpu_init_pmu(&vm->vcpus[i]);
    return error;
}

uint32_t arch_irq_line(uint32_t gsi)
{
    return KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (FIRST_SPI + gsi);
}
