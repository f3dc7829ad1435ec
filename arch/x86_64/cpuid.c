/* SPDX-License-Identifier: MIT */
#include "arch/x86_64/cpuid.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "arch/x86_64/cpuid_host.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/kvm/vm.h"

#define MAX_ENTRIES 256

#define LEAF_KVM_SIGNATURE 0x40000000u
#define LEAF_FREQUENCIES   0x40000010u /* kHz of TSC and local APIC; VMware's, others have it */

#define AMD_EBX                 0x68747541u /* "Auth", of leaf 0 */
#define HYGON_EBX               0x6f677948u /* "Hygo" */
#define AMD_TOPOLOGY_EXTENSIONS (1u << 22)  /* leaf 0x80000001, ECX: there is 0x8000001d */
#define AMD_MAX_CACHES          8           /* levels and kinds; CPUs have four */

#define CPUID_VMX  (1u << 5)  /* leaf 1, ECX */
#define CPUID_SVM  (1u << 2)  /* leaf 0x80000001, ECX */
#define CPUID_LA57 (1u << 16) /* leaf 7, ECX */

#define APIC_TIMER_KHZ 1000000u /* KVM's local APIC counts nanoseconds */

/* What differs from the host's CPUID, or between vCPUs. */
struct cpuid_topology {
    uint32_t apic_id;
    uint32_t cpus;    /* one socket, one core each, no hyper-threads */
    uint32_t id_bits; /* width of the core number in an APIC id */
    uint32_t tsc_khz; /* 0: unknown */
    bool deadline_timer;
    bool nested, pmu;
};

static uint32_t cpuid_set_field(uint32_t reg, unsigned low, unsigned bits, uint32_t value)
{
    uint32_t mask = ((1u << bits) - 1) << low;

    return (reg & ~mask) | ((value << low) & mask);
}

static uint32_t cpuid_set_bit(uint32_t reg, unsigned bit, bool value)
{
    return cpuid_set_field(reg, bit, 1, value);
}

/* Leaves 4 and 0x8000001d, one sub-leaf per cache: all vCPUs share the last level only. */
static void cpuid_fix_cache(struct kvm_cpuid_entry2 *entry, const struct cpuid_topology *t)
{
    uint32_t level = entry->eax >> 5 & 7;

    if ((entry->eax & 0x1f) == 0)
        return; /* no more caches */
    entry->eax = cpuid_set_field(entry->eax, 14, 12, level >= 3 ? t->cpus - 1 : 0);
    if (entry->function == 4)
        entry->eax = cpuid_set_field(entry->eax, 26, 6, t->cpus - 1);
}

/* Leaves 0xb and 0x1f (Intel SDM 2A, CPUID): threads of a core, then cores of the socket. */
static void cpuid_fix_topology(struct kvm_cpuid_entry2 *entry, const struct cpuid_topology *t)
{
    enum { THREADS = 1, CORES = 2 };

    entry->eax = entry->ebx = 0;
    entry->ecx = entry->index;
    entry->edx = t->apic_id;
    if (entry->index == 0) {
        entry->ebx = 1;
        entry->ecx |= THREADS << 8;
    } else if (entry->index == 1) {
        entry->eax = t->id_bits;
        entry->ebx = t->cpus;
        entry->ecx |= CORES << 8;
    }
}

static void cpuid_fix_features(struct kvm_cpuid_entry2 *entry, const struct cpuid_topology *t)
{
    entry->ebx = cpuid_set_field(entry->ebx, 16, 8, t->cpus);
    entry->ebx = cpuid_set_field(entry->ebx, 24, 8, t->apic_id);
    entry->ecx = cpuid_set_bit(entry->ecx, 21, true); /* x2APIC: KVM's local APIC always has it */
    entry->ecx = cpuid_set_bit(entry->ecx, 24, t->deadline_timer);
    entry->ecx = cpuid_set_bit(entry->ecx, 31, true); /* running on a hypervisor */
    entry->edx = cpuid_set_bit(entry->edx, 28, t->cpus > 1);
}

static void cpuid_clear(struct kvm_cpuid_entry2 *entry)
{
    entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
}

/* Virtualization: VMX (Intel SDM 2A, CPUID), SVM and its details (AMD APM 3, E.4). */
static void cpuid_hide_nested(struct kvm_cpuid_entry2 *entry)
{
    if (entry->function == 0x1)
        entry->ecx &= ~CPUID_VMX;
    else if (entry->function == 0x80000001)
        entry->ecx &= ~CPUID_SVM;
    else if (entry->function == 0x8000000a)
        cpuid_clear(entry);
}

/*
 * Performance counters and what records by them: on Intel's CPUs the debug store, processor trace
 * and branch records; on AMD's instruction-based sampling and profiling.
 */
static void cpuid_hide_pmu(struct kvm_cpuid_entry2 *entry)
{
    switch (entry->function) {
    case 0x1:
        entry->ecx &= ~(BIT(2) | BIT(4) | BIT(15)); /* DTES64, DS-CPL, PDCM */
        entry->edx &= ~BIT(21);                     /* DS */
        break;
    case 0x7:
        if (entry->index == 0) {
            entry->ebx &= ~BIT(25); /* Intel PT */
            entry->edx &= ~BIT(19); /* architectural LBRs */
        }
        break;
    case 0xa:        /* architectural performance monitoring */
    case 0x14:       /* Intel PT */
    case 0x1c:       /* LBRs */
    case 0x23:       /* architectural performance monitoring, extended */
    case 0x8000001b: /* IBS */
    case 0x8000001c: /* LWP */
    case 0x80000022: /* AMD's performance monitoring, version 2 */
        cpuid_clear(entry);
        break;
    case 0x80000001: /* IBS, LWP; extended counters of core, northbridge and last-level cache */
        entry->ecx &= ~(BIT(10) | BIT(15) | BIT(23) | BIT(24) | BIT(28));
        break;
    }
}

static void cpuid_fix(struct kvm_cpuid_entry2 *entry, const struct cpuid_topology *t)
{
    if (!t->nested)
        cpuid_hide_nested(entry);
    if (!t->pmu)
        cpuid_hide_pmu(entry);
    switch (entry->function) {
    case 0x1:
        cpuid_fix_features(entry, t);
        break;
    case 0x4:
    case 0x8000001d:
        cpuid_fix_cache(entry, t);
        break;
    case 0x6: /* no energy-performance bias: KVM does not have its MSR */
        entry->ecx = cpuid_set_bit(entry->ecx, 3, false);
        break;
    case 0xb:
    case 0x1f:
        cpuid_fix_topology(entry, t);
        break;
    case 0x15: /* TSC = crystal * ebx / eax, and the crystal drives the local APIC's timer */
        entry->eax = APIC_TIMER_KHZ;
        entry->ebx = t->tsc_khz;
        entry->ecx = t->tsc_khz ? APIC_TIMER_KHZ * 1000u : 0;
        break;
    case LEAF_KVM_SIGNATURE:
        entry->eax = LEAF_FREQUENCIES;
        break;
    case 0x80000008: /* AMD: cores of the socket, and width of the core number */
        entry->ecx = cpuid_set_field(entry->ecx, 0, 8, t->cpus - 1);
        entry->ecx = cpuid_set_field(entry->ecx, 12, 4, t->id_bits);
        break;
    case 0x8000001e: /* AMD: ids of APIC, core (of one thread) and node */
        entry->eax = t->apic_id;
        entry->ebx = t->apic_id & 0xff;
        entry->ecx = 0;
        break;
    }
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
    for (unsigned i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
            return &cpuid->entries[i];
    return NULL;
}

/* Adds a leaf if it is missing; cpuid_fix() fills it. */
static void cpuid_add(struct kvm_cpuid2 *cpuid, struct kvm_cpuid_entry2 entry)
{
    if (cpuid_find(cpuid, entry.function, entry.index))
        return;
    if (cpuid->nent == MAX_ENTRIES)
        log_warn("CPUID: no room for leaf %#x: the guest does not see it", entry.function);
    else
        cpuid->entries[cpuid->nent++] = entry;
}

/* Fills a leaf that KVM leaves empty with the host's own. Returns its EAX. */
static uint32_t cpuid_take_host(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index,
                                uint32_t flags)
{
    struct kvm_cpuid_entry2 host = { .function = function, .index = index, .flags = flags };
    struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, function, index);

    if (entry && (entry->eax | entry->ebx | entry->ecx | entry->edx))
        return entry->eax;
    cpuid_read_host(&host);
    if (entry)
        *entry = host;
    else
        cpuid_add(cpuid, host);
    return host.eax;
}

/*
 * The CPU's name, and AMD's description of its caches: data that a guest only displays or
 * schedules by.
 */
static void cpuid_add_host(struct kvm_cpuid2 *cpuid)
{
    const struct kvm_cpuid_entry2 *vendor = cpuid_find(cpuid, 0, 0);
    const struct kvm_cpuid_entry2 *last = cpuid_find(cpuid, 0x80000000, 0);
    const struct kvm_cpuid_entry2 *features = cpuid_find(cpuid, 0x80000001, 0);
    uint32_t max = last ? last->eax : 0, index = 0;

    for (uint32_t leaf = 0x80000002; leaf <= 0x80000004 && leaf <= max; leaf++)
        cpuid_take_host(cpuid, leaf, 0, 0);
    if (!vendor || (vendor->ebx != AMD_EBX && vendor->ebx != HYGON_EBX) || max < 0x80000005)
        return;
    cpuid_take_host(cpuid, 0x80000005, 0, 0);
    if (max < 0x8000001d || !features || !(features->ecx & AMD_TOPOLOGY_EXTENSIONS))
        return;
    while (index < AMD_MAX_CACHES &&
           cpuid_take_host(cpuid, 0x8000001d, index, KVM_CPUID_FLAG_SIGNIFCANT_INDEX) & 0x1f)
        index++;
}

static void cpuid_add_missing(struct kvm_cpuid2 *cpuid, const struct cpuid_topology *t)
{
    for (uint32_t index = 0; index < 3; index++) {
        struct kvm_cpuid_entry2 level = { .index = index,
                                          .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX };

        level.function = 0xb;
        if (cpuid_find(cpuid, 0xb, 0))
            cpuid_add(cpuid, level);
        level.function = 0x1f;
        if (cpuid_find(cpuid, 0x1f, 0))
            cpuid_add(cpuid, level);
    }
    if (t->tsc_khz)
        cpuid_add(cpuid, (struct kvm_cpuid_entry2){ .function = LEAF_FREQUENCIES,
                                                    .eax = t->tsc_khz,
                                                    .ebx = APIC_TIMER_KHZ });
}

/* Of the virtual machine since Linux 5.18, which takes less time than to ask a vCPU. */
uint32_t cpuid_tsc_khz(const struct vm *vm)
{
    int khz = ioctl(vm->fd, KVM_GET_TSC_KHZ, NULL);

    if (khz < 0)
        khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, NULL);
    return khz > 0 ? (uint32_t)khz : 0;
}

static struct cpuid_topology cpuid_topology(const struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    struct cpuid_topology t = {
        .apic_id = vcpu->index,
        .cpus = vm->vcpus_wanted,
        .tsc_khz = cpuid_tsc_khz(vm),
        .nested = vm->nested,
        .pmu = vm->pmu,
        .deadline_timer = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
    };

    while (1u << t.id_bits < t.cpus)
        t.id_bits++;
    return t;
}

static size_t cpuid_size(unsigned entries)
{
    return sizeof(struct kvm_cpuid2) + entries * sizeof(struct kvm_cpuid_entry2);
}

/*
 * The host executes CPUID for every leaf, which takes as long as all other calls of a start if the
 * host is itself a guest.
 */
int cpuid_ask_host(struct vm *vm)
{
    struct kvm_cpuid2 *cpuid;

    if (vm->cpuid)
        return 0;
    cpuid = calloc(1, cpuid_size(MAX_ENTRIES));
    if (!cpuid)
        return log_error(ENOMEM, "CPUID");
    vm->cpuid = cpuid;
    cpuid->nent = MAX_ENTRIES;
    if (vm_ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
        return log_error(errno, "ask KVM for its CPUID");
    cpuid_add_host(cpuid);
    return 0;
}

static bool cpuid_has_nested(struct kvm_cpuid2 *cpuid)
{
    const struct kvm_cpuid_entry2 *intel = cpuid_find(cpuid, 0x1, 0);
    const struct kvm_cpuid_entry2 *amd = cpuid_find(cpuid, 0x80000001, 0);

    return (intel && intel->ecx & CPUID_VMX) || (amd && amd->ecx & CPUID_SVM);
}

int cpuid_set(struct vcpu *vcpu)
{
    struct cpuid_topology topology = cpuid_topology(vcpu);
    cleanup_free struct kvm_cpuid2 *cpuid = malloc(cpuid_size(MAX_ENTRIES));

    if (!cpuid)
        return log_error(ENOMEM, "vCPU %u: CPUID", vcpu->index);
    memcpy(cpuid, vcpu->vm->cpuid, cpuid_size(vcpu->vm->cpuid->nent));
    if (topology.nested && !cpuid_has_nested(cpuid))
        return log_refuse(ENOTSUP, "--cpus: nested: this host's KVM does not offer it (as root: "
                                   "modprobe kvm_intel nested=1, or kvm_amd)");

    cpuid_add_missing(cpuid, &topology);
    for (unsigned i = 0; i < cpuid->nent; i++)
        cpuid_fix(&cpuid->entries[i], &topology);
    if (vm_ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
        return log_error(errno, "vCPU %u: set CPUID", vcpu->index);
    return 0;
}

bool cpuid_has_la57(const struct vm *vm)
{
    const struct kvm_cpuid_entry2 *features = cpuid_find(vm->cpuid, 0x7, 0);

    return features && features->ecx & CPUID_LA57;
}
