/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "arch/aarch64/irqchip.h"
#include "arch/aarch64/layout.h"
#include "arch/aarch64/vcpu.h"
#include "vmm/core/base.h"
#include "vmm/core/state.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

/*
 * The GIC's registers by KVM's device, which names them as the guest does (Arm IHI 0048 and 0069;
 * Documentation/virt/kvm/devices/arm-vgic.rst and arm-vgic-v3.rst). Saved in the order of loading:
 * the distributor's enable bit and all that says where and how an interrupt goes come before what
 * makes it pending, because KVM assigns an interrupt to a vCPU when it becomes pending. There are
 * no message-based interrupts (LPIs), and so no tables in RAM.
 */
#define MPIDR_EL1 ARM64_SYS_REG(3, 0, 0, 0, 5)

enum { GICD_CTLR = 0x00, GICD_IIDR = 0x08, GICD_STATUSR = 0x10 };
enum { GICR_CTLR = 0x00, GICR_STATUSR = 0x10, GICR_WAKER = 0x14, GICR_SGI = 0x10000 };
enum { GICC_CTLR = 0x00, GICC_PMR = 0x04, GICC_BPR = 0x08, GICC_ABPR = 0x1c, GICC_APR = 0xd0 };

/* A system register, as the device numbers it. */
#define SYSREG(crn, crm, op2) (3u << 14 | (crn) << 7 | (crm) << 3 | (op2))

#define ICC_CTLR_EL1    SYSREG(12, 12, 4)
#define ICC_AP0R_EL1(n) SYSREG(12, 8, 4 + (n))
#define ICC_AP1R_EL1(n) SYSREG(12, 9, (n))

/* Registers with some bits for each interrupt. */
struct gic_register {
    const char *name;
    uint32_t offset; /* of the first one */
    uint32_t clear;  /* of the first one that clears bits; 0: a write sets and clears */
    uint32_t bits;   /* for each interrupt */
    uint32_t stride; /* bytes from one to the next */
};

static const struct gic_register gic_group = { "IGROUPR", 0x80, 0, 1, 4 };
static const struct gic_register gic_enable = { "ISENABLER", 0x100, 0x180, 1, 4 };
static const struct gic_register gic_targets = { "ITARGETSR", 0x800, 0, 8, 4 }; /* version 2 */
/* Version 3. The upper half is for affinity level 3, which no vCPU has. */
static const struct gic_register gic_route = { "IROUTER", 0x6000, 0, 32, 8 };
static const struct gic_register gic_trigger = { "ICFGR", 0xc00, 0, 2, 4 };
static const struct gic_register gic_priority = { "IPRIORITYR", 0x400, 0, 8, 4 };
static const struct gic_register gic_pending = { "ISPENDR", 0x200, 0x280, 1, 4 };
static const struct gic_register gic_active = { "ISACTIVER", 0x300, 0x380, 1, 4 };
/* Version 2: which CPU sent a software-generated interrupt; 16 of them. */
static const struct gic_register gic_senders = { "SPENDSGIR", 0xf20, 0xf10, 4, 4 };

/* While the state is saved or loaded. */
struct gic {
    const struct vm *vm;
    unsigned version;
    struct state *s;
};

/* A group of registers: the device's, of one CPU or of all. */
struct gic_bank {
    uint32_t group;
    uint64_t base; /* of the attributes: offset 0, and the CPU in the upper half */
};

/* `value` has 32 bits; those of system registers have 64. */
static void gic_access(const struct gic *gic, unsigned long request, const struct gic_bank *bank,
                       uint32_t offset, void *value, const char *name)
{
    struct kvm_device_attr attr = { .group = bank->group,
                                    .attr = bank->base + offset,
                                    .addr = (uintptr_t)value };

    if (!gic->s->error && vm_ioctl(gic->vm->irqchip, request, &attr) < 0)
        state_fail(gic->s, "%s %s: %s", request == KVM_GET_DEVICE_ATTR ? "get" : "set", name,
                   strerror(errno));
}

static void gic_word(const struct gic *gic, const struct gic_bank *bank, const char *name,
                     uint32_t offset)
{
    uint32_t value = 0;

    if (!gic->s->loading)
        gic_access(gic, KVM_GET_DEVICE_ATTR, bank, offset, &value, name);
    state_u32(gic->s, name, &value);
    if (gic->s->loading)
        gic_access(gic, KVM_SET_DEVICE_ATTR, bank, offset, &value, name);
}

/* The registers of 32 interrupts from `first` on. */
static void gic_words(const struct gic *gic, const struct gic_bank *bank,
                      const struct gic_register *reg, uint32_t first)
{
    uint32_t all = UINT32_MAX;

    for (uint32_t i = first * reg->bits / 32; i < (first + 32) * reg->bits / 32; i++) {
        if (gic->s->loading && reg->clear)
            gic_access(gic, KVM_SET_DEVICE_ATTR, bank, reg->clear + i * reg->stride, &all,
                       reg->name);
        gic_word(gic, bank, reg->name, reg->offset + i * reg->stride);
    }
}

/* Version 3: the level of the lines, which ISPENDR does not have there. Then that. */
static void gic_lines(const struct gic *gic, uint64_t cpu, const struct gic_bank *bank,
                      uint32_t first)
{
    const struct gic_bank levels = { KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
                                     cpu | VGIC_LEVEL_INFO_LINE_LEVEL
                                               << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT };

    if (gic->version == 3)
        gic_word(gic, &levels, "level", first);
    gic_words(gic, bank, &gic_pending, first);
    gic_words(gic, bank, &gic_active, first);
}

static void gic_distributor(const struct gic *gic)
{
    const struct gic_bank bank = { KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0 };

    if (gic->version == 3)
        gic_word(gic, &bank, "STATUSR", GICD_STATUSR);
    gic_words(gic, &bank, &gic_group, FIRST_SPI);
    gic_words(gic, &bank, &gic_enable, FIRST_SPI);
    gic_words(gic, &bank, gic->version == 3 ? &gic_route : &gic_targets, FIRST_SPI);
    gic_words(gic, &bank, &gic_trigger, FIRST_SPI);
    gic_words(gic, &bank, &gic_priority, FIRST_SPI);
    gic_lines(gic, 0, &bank, FIRST_SPI);
}

/* The interrupts of one CPU. Version 3 has them in its redistributor. */
static void gic_private(const struct gic *gic, uint64_t cpu)
{
    const struct gic_bank redistributor = { KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, cpu };
    const struct gic_bank bank = gic->version == 3
                                     ? (struct gic_bank){ redistributor.group, cpu + GICR_SGI }
                                     : (struct gic_bank){ KVM_DEV_ARM_VGIC_GRP_DIST_REGS, cpu };

    if (gic->version == 3) {
        gic_word(gic, &redistributor, "CTLR", GICR_CTLR);
        gic_word(gic, &redistributor, "STATUSR", GICR_STATUSR);
        gic_word(gic, &redistributor, "WAKER", GICR_WAKER);
    }
    gic_words(gic, &bank, &gic_group, 0);
    gic_words(gic, &bank, &gic_enable, 0);
    gic_words(gic, &bank, &gic_trigger, 0);
    gic_words(gic, &bank, &gic_priority, 0);
    gic_lines(gic, cpu, &bank, 0);
    if (gic->version == 2)
        gic_words(gic, &bank, &gic_senders, 0); /* ISPENDR has set a wrong sender */
}

static uint64_t gic_sysreg(const struct gic *gic, uint64_t cpu, const char *name, uint32_t number)
{
    const struct gic_bank bank = { KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, cpu };
    uint64_t value = 0;

    if (!gic->s->loading)
        gic_access(gic, KVM_GET_DEVICE_ATTR, &bank, number, &value, name);
    state_u64(gic->s, name, &value);
    if (gic->s->loading)
        gic_access(gic, KVM_SET_DEVICE_ATTR, &bank, number, &value, name);
    return value;
}

/* How many active priorities registers there are depends on the bits of a priority. */
static void gic_interface_v3(const struct gic *gic, uint64_t cpu)
{
    unsigned bits, count;

    gic_sysreg(gic, cpu, "ICC_SRE_EL1", SYSREG(12, 12, 5));
    bits = (gic_sysreg(gic, cpu, "ICC_CTLR_EL1", ICC_CTLR_EL1) >> 8 & 7) + 1;
    gic_sysreg(gic, cpu, "ICC_IGRPEN0_EL1", SYSREG(12, 12, 6));
    gic_sysreg(gic, cpu, "ICC_IGRPEN1_EL1", SYSREG(12, 12, 7));
    gic_sysreg(gic, cpu, "ICC_PMR_EL1", SYSREG(4, 6, 0));
    gic_sysreg(gic, cpu, "ICC_BPR0_EL1", SYSREG(12, 8, 3));
    gic_sysreg(gic, cpu, "ICC_BPR1_EL1", SYSREG(12, 12, 3));
    count = bits >= 7 ? 4 : bits == 6 ? 2 : 1;
    for (unsigned i = 0; i < count; i++) {
        gic_sysreg(gic, cpu, "ICC_AP0R_EL1", ICC_AP0R_EL1(i));
        gic_sysreg(gic, cpu, "ICC_AP1R_EL1", ICC_AP1R_EL1(i));
    }
}

static void gic_interface_v2(const struct gic *gic, uint64_t cpu)
{
    const struct gic_bank bank = { KVM_DEV_ARM_VGIC_GRP_CPU_REGS, cpu };

    gic_word(gic, &bank, "GICC_CTLR", GICC_CTLR);
    gic_word(gic, &bank, "GICC_PMR", GICC_PMR);
    gic_word(gic, &bank, "GICC_BPR", GICC_BPR);
    gic_word(gic, &bank, "GICC_ABPR", GICC_ABPR);
    for (uint32_t i = 0; i < 4; i++)
        gic_word(gic, &bank, "GICC_APR", GICC_APR + 4 * i);
}

/* How the device names a vCPU: by its affinity, or by its index in version 2. */
static uint64_t gic_cpu(const struct gic *gic, const struct vcpu *vcpu)
{
    uint64_t affinity = vcpu_register(vcpu, MPIDR_EL1);

    if (gic->version == 2)
        return (uint64_t)vcpu->index << KVM_DEV_ARM_VGIC_CPUID_SHIFT;
    return (affinity & 0xffffff) << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT |
           (affinity >> 32 & 0xff) << (KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT + 24);
}

/* IIDR first: KVM takes it for the version of its GIC that the other registers are from. */
void irqchip_state(struct vm *vm, struct state *s)
{
    const struct gic gic = { vm, irqchip_version(vm), s };
    const struct gic_bank distributor = { KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0 };

    state_section(s, "irqchip", 1);
    state_same(s, "gic_version", gic.version);
    gic_word(&gic, &distributor, "IIDR", GICD_IIDR);
    gic_word(&gic, &distributor, "CTLR", GICD_CTLR);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        gic_private(&gic, gic_cpu(&gic, &vm->vcpus[i]));
    gic_distributor(&gic);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (gic.version == 3)
            gic_interface_v3(&gic, gic_cpu(&gic, &vm->vcpus[i]));
        else
            gic_interface_v2(&gic, gic_cpu(&gic, &vm->vcpus[i]));
    state_end_section(s);
}
