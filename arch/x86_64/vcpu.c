/* SPDX-License-Identifier: MIT */
#include "arch/x86_64/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/x86_64/boot.h"
#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/layout.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

#define CR0_PE       (1u << 0)
#define CR0_ET       (1u << 4)
#define CR0_PG       (1u << 31)
#define CR4_PAE      (1u << 5)
#define CR4_LA57     (1u << 12)
#define EFER_LME     (1u << 8)
#define EFER_LMA     (1u << 10)
#define RFLAGS_FIXED (1u << 1)

#define MSR_MISC_ENABLE      0x1a0u
#define MISC_ENABLE_FAST_STR 1u
#define MSR_MTRR_DEF_TYPE    0x2ffu
#define MTRR_ENABLE_WB       0x806u /* enabled; default type write-back */

#define MSR_FEATURE_CONTROL    0x3au
#define FEATURE_CONTROL_LOCKED 1u /* and nothing enabled */

#define LAPIC_LINT1 0x360     /* register offset */
#define LVT_NMI     (4u << 8) /* delivery mode */

static int vcpu_set_msrs(struct vcpu *vcpu)
{
    static const struct kvm_msr_entry wanted[] = {
        { .index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STR },
        { .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WB },
        { .index = MSR_FEATURE_CONTROL, .data = FEATURE_CONTROL_LOCKED }, /* Intel; no VMX */
    };
    cleanup_free struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(wanted));

    if (!msrs)
        return log_error(ENOMEM, "vCPU %u: set MSRs", vcpu->index);
    msrs->nmsrs = ARRAY_SIZE(wanted) - (vcpu->vm->nested ? 1 : 0);
    memcpy(msrs->entries, wanted, sizeof(wanted));
    /* KVM_SET_MSRS may set fewer: a host without one of them. Its guests do without, too. */
    if (vm_ioctl(vcpu->fd, KVM_SET_MSRS, msrs) < 0)
        return log_error(errno, "vCPU %u: set MSRs", vcpu->index);
    return 0;
}

/*
 * LINT1 is the NMI, as the ACPI tables say. KVM_SET_LAPIC also makes KVM update its map of APIC
 * ids; without it the vCPU created last would miss a start-up IPI.
 */
static int vcpu_set_lapic(struct vcpu *vcpu)
{
    struct kvm_lapic_state state;
    uint32_t lint1 = LVT_NMI;

    if (vm_ioctl(vcpu->fd, KVM_GET_LAPIC, &state) < 0)
        return log_error(errno, "vCPU %u: get the local APIC", vcpu->index);
    memcpy(state.regs + LAPIC_LINT1, &lint1, sizeof(lint1));
    if (vm_ioctl(vcpu->fd, KVM_SET_LAPIC, &state) < 0)
        return log_error(errno, "vCPU %u: set the local APIC", vcpu->index);
    return 0;
}

/* On x86 caches stay coherent, whatever memory type the guest maps the page with. */
void arch_clean_shadow(const void *word)
{
}

/* Everything else is as KVM_CREATE_VCPU leaves it: FPU at power-on, secondaries halted. */
int arch_vcpu_init(struct vcpu *vcpu)
{
    int error;

    if (vcpu->vm->restoring)
        return 0;
    /* CPUID before the MSRs: newer hosts check MSRs against it. */
    if ((error = cpuid_set(vcpu)) || (error = vcpu_set_msrs(vcpu)))
        return error;
    return vcpu_set_lapic(vcpu);
}

int arch_ask_host(struct vm *vm)
{
    return cpuid_ask_host(vm);
}

static struct kvm_segment vcpu_flat_segment(uint16_t selector, uint8_t type)
{
    return (struct kvm_segment){
        .limit = 0xffffffff,
        .selector = selector,
        .type = type,
        .present = 1,
        .s = 1,
        .g = 1,
        .db = 1,
    };
}

static void vcpu_set_segments(struct kvm_sregs *sregs, bool long_mode)
{
    struct kvm_segment code = vcpu_flat_segment(BOOT_CS, 0xb); /* execute, read, accessed */
    struct kvm_segment data = vcpu_flat_segment(BOOT_DS, 0x3); /* read, write, accessed */

    code.l = long_mode;
    code.db = !long_mode;
    sregs->cs = code;
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->tr = (struct kvm_segment){
        .selector = BOOT_TSS, .limit = 0x67, .type = 0xb, .present = 1 /* a busy 32-bit TSS */
    };
    sregs->gdt.base = GDT_BASE;
    sregs->gdt.limit = GDT_SIZE - 1;
    sregs->idt.limit = 0;
}

/* The 64-bit boot protocol requires paging; PVH flat 32-bit segments without paging. */
int vcpu_set_entry(struct vcpu *vcpu, const struct boot_entry *entry)
{
    bool long_mode = entry->protocol == BOOT_LINUX64;
    struct kvm_regs regs = { .rip = entry->rip, .rflags = RFLAGS_FIXED };
    struct kvm_sregs sregs;

    if (vm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
        return log_error(errno, "vCPU %u: get registers", vcpu->index);

    vcpu_set_segments(&sregs, long_mode);
    sregs.cr0 = CR0_PE | CR0_ET;
    if (long_mode) {
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = entry->page_tables;
        sregs.cr4 = CR4_PAE | (entry->la57 ? CR4_LA57 : 0);
        sregs.efer = EFER_LME | EFER_LMA;
        regs.rsi = entry->argument;
        regs.rsp = BOOT_STACK_TOP;
    } else {
        regs.rbx = entry->argument;
    }

    if (vm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 ||
        vm_ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
        return log_error(errno, "vCPU %u: set registers", vcpu->index);
    return 0;
}

/* One IN or OUT, or an INS or OUTS of several values to the same port. */
static void vcpu_port_io(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    const struct bus *ports = vcpu->vm->ports;
    unsigned size = run->io.size;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    (*(run->io.direction == KVM_EXIT_IO_OUT ? &vcpu->stats->port_outs : &vcpu->stats->port_ins))++;
    for (unsigned i = 0; i < run->io.count; i++, data += size) {
        uint64_t value = 0;

        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, size);
            bus_write(ports, run->io.port, size, value);
        } else {
            value = bus_read(ports, run->io.port, size);
            memcpy(data, &value, size);
        }
    }
}

bool arch_vcpu_exit(struct vcpu *vcpu)
{
    if (vcpu->run->exit_reason != KVM_EXIT_IO)
        return false;
    vcpu_port_io(vcpu);
    return true;
}

/* Logs the bytes at RIP, if they can be translated and read. */
static void vcpu_dump_code(struct vcpu *vcpu, uint64_t rip)
{
    struct kvm_translation translation = { .linear_address = rip };
    char text[16 * 3 + 1] = "not readable";
    uint8_t bytes[16];

    if (vm_ioctl(vcpu->fd, KVM_TRANSLATE, &translation) == 0 && translation.valid &&
        guest_read(vcpu->vm->mem, translation.physical_address, bytes, sizeof(bytes)) == 0)
        for (unsigned i = 0; i < sizeof(bytes); i++)
            snprintf(text + 3 * i, sizeof(text) - 3 * i, "%02x ", bytes[i]);
    log_refuse(EIO, "  code at rip: %s", text);
}

void arch_vcpu_dump(struct vcpu *vcpu)
{
    struct kvm_sregs s;
    struct kvm_regs r;

    if (vm_ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || vm_ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0) {
        log_error(errno, "  registers");
        return;
    }
    log_refuse(EIO, "  rip %016llx rflags %08llx cs %04x cpl %u", r.rip, r.rflags, s.cs.selector,
               s.ss.dpl);
    log_refuse(EIO, "  rax %016llx rbx %016llx rcx %016llx rdx %016llx", r.rax, r.rbx, r.rcx,
               r.rdx);
    log_refuse(EIO, "  rsi %016llx rdi %016llx rbp %016llx rsp %016llx", r.rsi, r.rdi, r.rbp,
               r.rsp);
    log_refuse(EIO, "  r8  %016llx r9  %016llx r10 %016llx r11 %016llx", r.r8, r.r9, r.r10, r.r11);
    log_refuse(EIO, "  r12 %016llx r13 %016llx r14 %016llx r15 %016llx", r.r12, r.r13, r.r14,
               r.r15);
    log_refuse(EIO, "  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %08llx", s.cr0, s.cr2,
               s.cr3, s.cr4, s.efer);
    vcpu_dump_code(vcpu, s.cs.base + r.rip);
}
