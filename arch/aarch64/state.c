/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arch/aarch64/features.h"
#include "arch/aarch64/irqchip.h"
#include "arch/aarch64/vcpu.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

/*
 * KVM's state of a machine: its counters, each vCPU, then the interrupt controller. Which registers
 * a vCPU has is KVM's to say (KVM_GET_REG_LIST); they keep its numbers and order. The counters are
 * the machine's, so they are no vCPU's: they are set once, before the timers that compare with
 * them.
 */
#define MIDR_EL1 ARM64_SYS_REG(3, 0, 0, 0, 0)

#define MAX_REGISTERS     4096
#define MAX_REGISTER_SIZE 256 /* bytes: KVM_REG_SIZE_U2048 */

struct saved_register {
    uint64_t id;
    uint32_t size; /* bytes */
    uint8_t value[MAX_REGISTER_SIZE];
};

/* A call of KVM; the first that fails is the state's error, and no other follows it. */
#define CALL(s, fd, request, arg) state_call((s), (fd), (request), (arg), #request)

static void state_call(struct state *s, int fd, unsigned long request, void *arg, const char *name)
{
    if (!s->error && vm_ioctl(fd, request, arg) < 0)
        state_fail(s, "%s: %s", name, strerror(errno));
}

/* Of the counters. */
static uint64_t counter_hz(void)
{
    uint64_t hz;

    __asm__("mrs %0, cntfrq_el0" : "=r"(hz));
    return hz;
}

/* What the vCPUs' state needs of its host. */
static void host_state(struct vm *vm, struct state *s)
{
    uint64_t midr_here = vcpu_register(&vm->vcpus[0], MIDR_EL1), midr = midr_here;
    uint64_t hz_here = counter_hz(), hz = hz_here;

    state_section(s, "host", 1);
    state_same(s, "vcpus", vm->vcpu_count);
    state_u64(s, "counter_hz", &hz);
    state_u64(s, "midr", &midr);
    if (hz != hz_here)
        state_fail(s, "the counter runs at %" PRIu64 " Hz here, and ran at %" PRIu64, hz_here, hz);
    if (midr != midr_here)
        state_fail(s,
                   "the processor is another model: MIDR is %#" PRIx64 " here, and was %#" PRIx64,
                   midr_here, midr);
    state_end_section(s);
}

static bool is_counter(uint64_t id)
{
    return id == KVM_REG_ARM_TIMER_CNT || id == KVM_REG_ARM_PTIMER_CNT;
}

static int register_call(const struct vcpu *vcpu, unsigned long request, uint64_t id, void *value)
{
    struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)value };

    return vm_ioctl(vcpu->fd, request, &reg) < 0 ? -errno : 0;
}

/* As assemblers name system registers: "S3_0_C1_C0_0"; else KVM's number. */
static const char *register_name(uint64_t id, char text[static 32])
{
    unsigned number = id & 0xffff;

    if ((id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM64_SYSREG)
        snprintf(text, 32, "S%u_%u_C%u_C%u_%u", number >> 14, number >> 11 & 7, number >> 7 & 15,
                 number >> 3 & 15, number & 7);
    else
        snprintf(text, 32, "%#" PRIx64, id);
    return text;
}

static uint64_t register_low(const struct saved_register *reg)
{
    uint64_t low = 0;

    memcpy(&low, reg->value, reg->size < sizeof(low) ? reg->size : sizeof(low));
    return low;
}

static void register_get(const struct vcpu *vcpu, struct saved_register *reg, struct state *s)
{
    uint64_t size = 1ull << ((reg->id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
    char name[32];
    int error;

    reg->size = (uint32_t)size;
    if (size > sizeof(reg->value)) {
        state_fail(s, "register %s has %" PRIu64 " bytes", register_name(reg->id, name), size);
        return;
    }
    error = register_call(vcpu, KVM_GET_ONE_REG, reg->id, reg->value);
    if (error == -ENOENT)
        state_fail(s, "this host's KVM does not have register %s", register_name(reg->id, name));
    else if (error)
        state_fail(s, "get register %s: %s", register_name(reg->id, name), strerror(-error));
}

/* `now` is what the register is on this host. */
static void register_refuse(const struct saved_register *reg, const struct saved_register *now,
                            int error, struct state *s)
{
    char name[32], missing[64] = "";

    if ((reg->id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM64_SYSREG)
        features_missing(reg->id & 0xffff, register_low(reg), register_low(now), missing,
                         sizeof(missing));
    if (*missing)
        state_fail(s, "the host lacks %s, which the guest uses", missing);
    state_fail(s, "register %s is %#" PRIx64 " on this host and cannot be set to %#" PRIx64 ": %s",
               register_name(reg->id, name), register_low(now), register_low(reg),
               strerror(-error));
}

/*
 * Only if it differs: some registers can be read and not written, and what KVM calls firmware may
 * only be changed before the first vCPU has run.
 */
static void register_set(const struct vcpu *vcpu, struct saved_register *reg, struct state *s)
{
    struct saved_register now = { .id = reg->id };
    char name[32];
    int error;

    register_get(vcpu, &now, s);
    if (!s->error && reg->size != now.size)
        state_fail(s, "register %s has %u bytes", register_name(reg->id, name), reg->size);
    if (s->error || memcmp(reg->value, now.value, now.size) == 0)
        return;
    error = register_call(vcpu, KVM_SET_ONE_REG, reg->id, reg->value);
    if (error)
        register_refuse(reg, &now, error, s);
}

/* The vCPU's registers without the counters. NULL: out of memory. */
static struct kvm_reg_list *register_list(const struct vcpu *vcpu, struct state *s)
{
    struct kvm_reg_list *list = calloc(1, sizeof(*list) + MAX_REGISTERS * sizeof(list->reg[0]));
    uint64_t kept = 0;

    if (!list) {
        state_fail(s, "out of memory");
        return NULL;
    }
    list->n = MAX_REGISTERS;
    CALL(s, vcpu->fd, KVM_GET_REG_LIST, list);
    for (uint64_t i = 0; i < list->n && !s->error; i++)
        if (!is_counter(list->reg[i]))
            list->reg[kept++] = list->reg[i];
    list->n = kept;
    return list;
}

static void registers_state(const struct vcpu *vcpu, struct state *s)
{
    cleanup_free struct kvm_reg_list *list = s->loading ? NULL : register_list(vcpu, s);
    uint32_t count = state_count(s, "registers", list ? (uint32_t)list->n : 0, MAX_REGISTERS);

    for (uint32_t i = 0; i < count && !s->error; i++) {
        struct saved_register reg = { .id = list ? list->reg[i] : 0 };

        if (!s->loading)
            register_get(vcpu, &reg, s);
        state_u64(s, "id", &reg.id);
        state_data(s, "value", reg.value, &reg.size, sizeof(reg.value));
        if (s->loading)
            register_set(vcpu, &reg, s);
    }
}

/* Whether the vCPU is off, as PSCI leaves it, comes last: nothing after it makes it run. */
static void vcpu_state(const struct vcpu *vcpu, struct state *s)
{
    struct kvm_vcpu_events events = { 0 };
    struct kvm_mp_state mp = { 0 };
    char name[16];

    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    state_section(s, name, 1);
    registers_state(vcpu, s);
    if (!s->loading) {
        CALL(s, vcpu->fd, KVM_GET_VCPU_EVENTS, &events);
        CALL(s, vcpu->fd, KVM_GET_MP_STATE, &mp);
    }
    state_bytes(s, "events", &events, sizeof(events));
    state_field(s, &mp, mp_state);
    if (s->loading) {
        CALL(s, vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
        CALL(s, vcpu->fd, KVM_SET_MP_STATE, &mp);
    }
    state_end_section(s);
}

/* Nanoseconds since 1970. */
static uint64_t real_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The counter's ticks since that time. */
static uint64_t ticks_since(uint64_t then)
{
    uint64_t now = real_time(), ns = now > then ? now - then : 0, hz = counter_hz();

    return ns / 1000000000 * hz + ns % 1000000000 * hz / 1000000000;
}

static void counter_set(const struct vcpu *vcpu, uint64_t id, uint64_t value, struct state *s)
{
    char name[32];
    int error = s->error ? 0 : register_call(vcpu, KVM_SET_ONE_REG, id, &value);

    if (error)
        state_fail(s, "set counter %s: %s", register_name(id, name), strerror(-error));
}

/*
 * The counters go on where they stopped, so the guest's timers keep their distance; or, if the vm's
 * `real_time` says so, as much later as time has passed. KVM has one of each for all vCPUs. The
 * physical one can be set since Linux 6.4. Where the CPU has no offset for it (FEAT_ECV), its
 * accesses then exit; they are rare, as guests use the virtual one.
 */
static void clock_state(struct vm *vm, struct state *s)
{
    const struct vcpu *vcpu = &vm->vcpus[0];
    uint64_t counter = 0, physical = 0, real = real_time();
    bool has_physical = false;

    if (!s->loading) {
        counter = vcpu_register(vcpu, KVM_REG_ARM_TIMER_CNT);
        has_physical = register_call(vcpu, KVM_GET_ONE_REG, KVM_REG_ARM_PTIMER_CNT, &physical) == 0;
    }
    state_section(s, "clock", 1);
    state_u64(s, "counter", &counter);
    state_bool(s, "has_physical", &has_physical);
    state_u64(s, "physical", &physical);
    state_u64(s, "realtime", &real);
    if (s->loading) {
        uint64_t passed = vm->real_time ? ticks_since(real) : 0;

        counter_set(vcpu, KVM_REG_ARM_TIMER_CNT, counter + passed, s);
        if (has_physical)
            counter_set(vcpu, KVM_REG_ARM_PTIMER_CNT, physical + passed, s);
    }
    state_end_section(s);
}

void arch_vm_state(struct vm *vm, struct state *s)
{
    host_state(vm, s);
    clock_state(vm, s);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_state(&vm->vcpus[i], s);
    irqchip_state(vm, s);
}
