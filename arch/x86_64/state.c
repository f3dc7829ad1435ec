/* SPDX-License-Identifier: MIT */
#include <asm/kvm.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/cpuid_check.h"
#include "arch/x86_64/state_msrs.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

/*
 * KVM's state of a machine: each vCPU, then the interrupt controllers and the clock. A structure of
 * KVM is one field: its layout is part of the kernel's ABI. The order of the calls matters, and
 * differs between saving and loading.
 */
#define MAX_CPUID_BYTES (256 * sizeof(struct kvm_cpuid_entry2))
#define MAX_XSAVE       16384 /* bytes; AMX needs 11008 */
#define TSC_TOLERANCE   4000  /* 1/4000, 250 ppm: KVM takes such frequencies for the same */

#define LAPIC_LVT_TIMER  0x320 /* register offset */
#define LVT_MODE_MASK    (3u << 17)
#define LVT_TSC_DEADLINE (2u << 17)

struct vcpu_state {
    struct kvm_mp_state mp_state;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    uint32_t cpuid_size; /* bytes of its entries */
    uint32_t xsave_size; /* bytes */
    uint64_t tsc;        /* of vCPU 0, for all */
    uint64_t tsc_ahead;  /* of vCPU 0: the guest has set it */
    struct msr_list msrs;
    /* A struct kvm_cpuid2: see vcpu_cpuid(). */
    _Alignas(struct kvm_cpuid2) uint8_t cpuid[sizeof(struct kvm_cpuid2) + MAX_CPUID_BYTES];
    _Alignas(64) uint8_t xsave[MAX_XSAVE];
};

static struct kvm_cpuid2 *vcpu_cpuid(struct vcpu_state *v)
{
    return (struct kvm_cpuid2 *)(void *)v->cpuid;
}

/* A call of KVM; the first that fails is the state's error, and no other follows it. */
#define CALL(s, fd, request, arg) state_call((s), (fd), (request), (arg), #request)

static void state_call(struct state *s, int fd, unsigned long request, void *arg, const char *name)
{
    if (!s->error && vm_ioctl(fd, request, arg) < 0)
        state_fail(s, "%s: %s", name, strerror(errno));
}

/* KVM_VCPU_TSC_OFFSET: the guest's TSC less the host's. 0 before Linux 5.16. */
static uint64_t vcpu_tsc_offset(const struct vcpu *vcpu)
{
    uint64_t offset = 0;
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                    .attr = KVM_VCPU_TSC_OFFSET,
                                    .addr = (uintptr_t)&offset };

    return vm_ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr) < 0 ? 0 : offset;
}

static void vcpu_set_tsc_offset(const struct vcpu *vcpu, uint64_t offset, struct state *s)
{
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                    .attr = KVM_VCPU_TSC_OFFSET,
                                    .addr = (uintptr_t)&offset };

    CALL(s, vcpu->fd, KVM_SET_DEVICE_ATTR, &attr);
}

static size_t vm_xsave_size(const struct vm *vm)
{
    int size = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2); /* since Linux 5.17 */

    return size > 0 ? (size_t)size : sizeof(struct kvm_xsave);
}

/*
 * KVM_GET_MP_STATE first: it takes pending INIT and SIPI, which changes registers. CPUID before the
 * MSRs, some of which depend on it. The events last: the calls before them may change those.
 */
static void vcpu_get(struct vcpu *vcpu, struct vcpu_state *v, const struct msr_indexes *indexes,
                     struct state *s)
{
    size_t xsave_size = vm_xsave_size(vcpu->vm);
    int fd = vcpu->fd;

    if (xsave_size > MAX_XSAVE)
        state_fail(s, "%zu bytes of extended registers", xsave_size);
    v->xsave_size = (uint32_t)xsave_size;
    CALL(s, fd, KVM_GET_MP_STATE, &v->mp_state);
    CALL(s, fd, KVM_GET_REGS, &v->regs);
    CALL(s, fd, KVM_GET_SREGS2, &v->sregs);
    if (xsave_size > sizeof(struct kvm_xsave))
        CALL(s, fd, KVM_GET_XSAVE2, v->xsave);
    else
        CALL(s, fd, KVM_GET_XSAVE, v->xsave);
    CALL(s, fd, KVM_GET_XCRS, &v->xcrs);
    CALL(s, fd, KVM_GET_DEBUGREGS, &v->debugregs);
    CALL(s, fd, KVM_GET_LAPIC, &v->lapic);
    vcpu_cpuid(v)->nent = MAX_CPUID_BYTES / sizeof(struct kvm_cpuid_entry2);
    CALL(s, fd, KVM_GET_CPUID2, vcpu_cpuid(v));
    v->cpuid_size = vcpu_cpuid(v)->nent * (uint32_t)sizeof(struct kvm_cpuid_entry2);
    msrs_get(fd, indexes, &v->msrs, s);
    CALL(s, fd, KVM_GET_VCPU_EVENTS, &v->events);
}

/*
 * A guest that programs a deadline finds 0 once it has passed; KVM may have cleared it before it
 * made the interrupt pending. A deadline that has just passed raises that interrupt: one too many
 * is harmless.
 */
static void vcpu_mend_deadline(struct vcpu_state *v)
{
    uint32_t lvt;

    memcpy(&lvt, v->lapic.regs + LAPIC_LVT_TIMER, sizeof(lvt));
    if ((lvt & LVT_MODE_MASK) == LVT_TSC_DEADLINE && v->msrs.deadline == 0)
        v->msrs.deadline = v->tsc;
}

/*
 * A vCPU that has run: KVM_GET_MP_STATE takes pending INIT and SIPI, and without a deadline the
 * timer of its local APIC raises nothing meanwhile.
 */
static void vcpu_forget(const struct vcpu *vcpu, struct state *s)
{
    struct kvm_mp_state mp_state;

    CALL(s, vcpu->fd, KVM_GET_MP_STATE, &mp_state);
    msrs_clear_deadline(vcpu->fd, s);
}

/*
 * The local APIC before the MSRs: KVM drops a deadline while the timer is in another mode. The TSC
 * before the deadline. All vCPUs get the same TSC within a second, which KVM takes for one clock.
 */
static void vcpu_set(struct vcpu *vcpu, struct vcpu_state *v, struct state *s)
{
    int fd = vcpu->fd;

    vcpu_mend_deadline(v);
    if (vcpu->vm->rewinding)
        vcpu_forget(vcpu, s);
    else
        CALL(s, fd, KVM_SET_CPUID2, vcpu_cpuid(v));
    CALL(s, fd, KVM_SET_MP_STATE, &v->mp_state);
    CALL(s, fd, KVM_SET_REGS, &v->regs);
    CALL(s, fd, KVM_SET_SREGS2, &v->sregs);
    CALL(s, fd, KVM_SET_XSAVE, v->xsave);
    CALL(s, fd, KVM_SET_XCRS, &v->xcrs);
    CALL(s, fd, KVM_SET_DEBUGREGS, &v->debugregs);
    CALL(s, fd, KVM_SET_LAPIC, &v->lapic);
    if (vcpu->index == 0)
        msrs_begin_tsc(fd, v->tsc, s);
    msrs_set(fd, &v->msrs, v->tsc, s);
    if (v->tsc_ahead && !s->error)
        vcpu_set_tsc_offset(vcpu, vcpu_tsc_offset(&vcpu->vm->vcpus[0]) + v->tsc_ahead, s);
    msrs_set_deadline(fd, &v->msrs, s);
    CALL(s, fd, KVM_SET_VCPU_EVENTS, &v->events);
    if (vcpu->vm->rewinding)
        msrs_compare(fd, &v->msrs, s);
}

/*
 * What a new vCPU has on this host is what KVM says when it was given that: it may have more than
 * KVM_GET_SUPPORTED_CPUID lists.
 */
static void vcpu_check_cpuid(struct vcpu *vcpu, struct vcpu_state *v, struct state *s)
{
    const size_t size = sizeof(struct kvm_cpuid2) + MAX_CPUID_BYTES;
    cleanup_free struct kvm_cpuid2 *here = malloc(size);

    if (!here || cpuid_ask_host(vcpu->vm) < 0 || cpuid_set(vcpu) < 0) {
        state_fail(s, "the host's CPUID is not known");
        return;
    }
    here->nent = MAX_CPUID_BYTES / sizeof(struct kvm_cpuid_entry2);
    CALL(s, vcpu->fd, KVM_GET_CPUID2, here);
    if (!s->error)
        cpuid_check(vcpu_cpuid(v), here, s);
}

/* Before KVM gets any of it. */
static void vcpu_check(struct vcpu *vcpu, struct vcpu_state *v, struct state *s)
{
    size_t xsave_size = vm_xsave_size(vcpu->vm);

    vcpu_cpuid(v)->nent = v->cpuid_size / (uint32_t)sizeof(struct kvm_cpuid_entry2);
    if (vcpu->vm->elsewhere && !vcpu->vm->rewinding && !s->error)
        vcpu_check_cpuid(vcpu, v, s);
    if (!s->error && v->xsave_size != xsave_size)
        state_fail(s, "%u bytes of extended registers, and KVM has %zu here", v->xsave_size,
                   xsave_size);
}

static void vcpu_walk(struct vcpu_state *v, struct state *s)
{
    state_bytes(s, "mp_state", &v->mp_state, sizeof(v->mp_state));
    state_bytes(s, "regs", &v->regs, sizeof(v->regs));
    state_bytes(s, "sregs", &v->sregs, sizeof(v->sregs));
    state_bytes(s, "xcrs", &v->xcrs, sizeof(v->xcrs));
    state_bytes(s, "debugregs", &v->debugregs, sizeof(v->debugregs));
    state_bytes(s, "lapic", &v->lapic, sizeof(v->lapic));
    state_bytes(s, "events", &v->events, sizeof(v->events));
    state_field(s, v, tsc);
    state_field(s, v, tsc_ahead);
    state_data(s, "cpuid", vcpu_cpuid(v)->entries, &v->cpuid_size, MAX_CPUID_BYTES);
    state_data(s, "xsave", v->xsave, &v->xsave_size, MAX_XSAVE);
    msrs_state(&v->msrs, s);
}

static void vcpu_state(struct vcpu *vcpu, struct vcpu_state *v, const struct msr_indexes *indexes,
                       uint64_t *tsc, struct state *s)
{
    char name[16];

    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    state_section(s, name, 1);
    if (!s->loading) {
        vcpu_get(vcpu, v, indexes, s);
        if (vcpu->index == 0)
            *tsc = v->msrs.tsc;
        v->tsc = *tsc;
        v->tsc_ahead = vcpu_tsc_offset(vcpu) - vcpu_tsc_offset(&vcpu->vm->vcpus[0]);
    }
    vcpu_walk(v, s);
    if (s->loading) {
        vcpu_check(vcpu, v, s);
        vcpu_set(vcpu, v, s);
    }
    state_end_section(s);
}

/* After every local APIC: setting the I/O APIC delivers what is pending. */
static void irqchip_state(struct vm *vm, struct state *s)
{
    static const char *const names[] = { "pic_master", "pic_slave", "ioapic" };

    state_section(s, "irqchip", 1);
    for (uint32_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct kvm_irqchip chip = { .chip_id = i };

        if (!s->loading)
            CALL(s, vm->fd, KVM_GET_IRQCHIP, &chip);
        state_bytes(s, names[i], &chip.chip, sizeof(chip.chip));
        if (s->loading)
            CALL(s, vm->fd, KVM_SET_IRQCHIP, &chip);
    }
    state_end_section(s);
}

/*
 * kvmclock goes on where it stopped, so the guest's timers keep their distance; or, if the vm's
 * `real_time` says so, as much later as time has passed. KVM_GET_CLOCK's flags are not for
 * KVM_SET_CLOCK.
 */
static void clock_state(struct vm *vm, struct state *s)
{
    struct kvm_clock_data clock = { 0 };
    uint64_t now = 0, real = 0;

    state_section(s, "clock", 1);
    if (!s->loading) {
        CALL(s, vm->fd, KVM_GET_CLOCK, &clock);
        now = clock.clock;
        real = clock.flags & KVM_CLOCK_REALTIME ? clock.realtime : 0;
    }
    state_u64(s, "kvmclock", &now);
    state_u64(s, "realtime", &real);
    if (s->loading) {
        clock = (struct kvm_clock_data){ .clock = now };
        if (vm->real_time && real) {
            clock.flags = KVM_CLOCK_REALTIME;
            clock.realtime = real;
        }
        CALL(s, vm->fd, KVM_SET_CLOCK, &clock);
    }
    state_end_section(s);
}

/* It may be scaled, unlike cpuid_tsc_khz(). */
static uint32_t vcpu_tsc_khz(const struct vcpu *vcpu)
{
    int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);

    return khz > 0 ? (uint32_t)khz : 0;
}

static bool tsc_differs(uint32_t khz, uint32_t other)
{
    return (khz > other ? khz - other : other - khz) > other / TSC_TOLERANCE;
}

/* Where the CPU can scale it, the guest's time stamp counter runs as fast as it did. */
static void tsc_set_khz(struct vm *vm, uint32_t khz, uint32_t here, struct state *s)
{
    if (s->error || khz == here || !tsc_differs(khz, here))
        return;
    if (khz == 0 || ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0)
        state_fail(s,
                   "the time stamp counter runs at %u kHz here, and ran at %u; this host cannot "
                   "scale it",
                   here, khz);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        CALL(s, vm->vcpus[i].fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)khz);
}

/*
 * What the vCPUs' state needs of its host. CPUID is only compared where it may be another: to ask
 * for it takes long, and no CPU loses features while its kernel runs.
 */
static void host_state(struct vm *vm, struct state *s)
{
    uint32_t here = cpuid_tsc_khz(vm), tsc_khz = s->loading ? here : vcpu_tsc_khz(&vm->vcpus[0]);
    char boot[sizeof(vm->host_boot)];

    memcpy(boot, vm->host_boot, sizeof(boot));
    state_section(s, "host", 2);
    state_same(s, "vcpus", vm->vcpu_count);
    state_u32(s, "tsc_khz", &tsc_khz);
    if (state_since(s, 2))
        state_bytes(s, "boot", boot, sizeof(boot));
    else
        memset(boot, 0, sizeof(boot));
    vm->elsewhere = !boot[0] || memcmp(boot, vm->host_boot, sizeof(boot)) != 0;
    if (vm->nested)
        state_fail(s, "a guest that may have guests (--cpus N,nested) cannot be saved");
    if (s->loading)
        tsc_set_khz(vm, tsc_khz, here, s);
    state_end_section(s);
}

void arch_vm_state(struct vm *vm, struct state *s)
{
    cleanup_free struct vcpu_state *v = aligned_alloc(_Alignof(struct vcpu_state), sizeof(*v));
    struct msr_indexes indexes = { 0 };
    uint64_t tsc = 0;

    host_state(vm, s);
    if (!v || (!s->loading && !msrs_list(vm->kvm, &indexes)))
        state_fail(s, "out of memory");
    for (unsigned i = 0; i < vm->vcpu_count && !s->error; i++) {
        *v = (struct vcpu_state){ 0 };
        vcpu_state(&vm->vcpus[i], v, &indexes, &tsc, s);
    }
    irqchip_state(vm, s);
    clock_state(vm, s);
    /* Tells a guest with kvmclock that it was stopped, before it runs: else its watchdogs bark. */
    for (unsigned i = 0; s->loading && !s->error && i < vm->vcpu_count; i++)
        vm_ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, NULL);
}
