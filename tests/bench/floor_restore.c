/* SPDX-License-Identifier: MIT */

/*
 * The minimal time for restoring a guest: only the KVM calls that every VMM needs which maps the
 * saved memory and loads all state of one vCPU, the interrupt controllers and the clock.
 *
 *     floor-restore save KERNEL MEGABYTES DIR
 *     floor-restore load DIR
 *     floor-restore spare DIR
 *
 * The first runs the payload "repeat" up to its first output, and saves it to the files "state" and
 * "memory". The second goes on from there to the next output, on which it ends. "spare" makes the
 * same machine but loads its state only at the order, a byte on standard input; it prints a line
 * when it is ready.
 *
 * The order of the calls is that of the kernel's documentation and of QEMU: what runs an access of
 * the local APIC or moves a pending event comes before what has the last word on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bare.h"

#define LOW_RAM_END   0xc0000000u
#define HIGH_RAM_BASE 0x100000000u
#define MSRS          256
#define XSAVE_SIZE    0x4000 /* with AMX */
#define MSR_TSC       0x10
#define MSR_DEADLINE  0x6e0
#define CHIPS         3 /* two i8259, one I/O APIC */

struct msrs {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[MSRS];
};

struct saved {
    uint64_t ram_size;
    struct kvm_mp_state mp_state;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    uint8_t xsave[XSAVE_SIZE];
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    int tsc_khz;
    struct bare_cpuid cpuid;
    struct msrs msrs;
    struct kvm_vcpu_events events;
    struct kvm_irqchip chips[CHIPS];
    struct kvm_clock_data clock;
};

struct machine {
    int kvm, vm, vcpu;
    struct kvm_run *run;
    char *ram;
};

static void add_slots(int vm, char *ram, uint64_t size)
{
    uint64_t low = size < LOW_RAM_END ? size : LOW_RAM_END;
    struct kvm_userspace_memory_region slot = { .memory_size = low,
                                                .userspace_addr = (uintptr_t)ram };

    CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
    if (size == low)
        return;
    slot = (struct kvm_userspace_memory_region){ .slot = 1,
                                                 .guest_phys_addr = HIGH_RAM_BASE,
                                                 .memory_size = size - low,
                                                 .userspace_addr = (uintptr_t)ram + low };
    CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
}

/* With the file as its memory: MAP_SHARED to save it there, MAP_PRIVATE to leave it as it is. */
static struct machine create(int memory, uint64_t size, int flags)
{
    struct machine m = { .kvm = bare_call("open /dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC)) };
    int run_size = CALL(m.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

    m.vm = CALL(m.kvm, KVM_CREATE_VM, 0);
    m.ram = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, memory, 0);
    bare_call("mmap", m.ram == MAP_FAILED ? -1 : 0);
    add_slots(m.vm, m.ram, size);
    CALL(m.vm, KVM_SET_TSS_ADDR, BARE_TSS_BASE);
    CALL(m.vm, KVM_CREATE_IRQCHIP, 0);
    m.vcpu = CALL(m.vm, KVM_CREATE_VCPU, 0);
    m.run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu, 0);
    bare_call("mmap", m.run == MAP_FAILED ? -1 : 0);
    return m;
}

static int open_in(const char *directory, const char *name, int flags)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return bare_call(path, open(path, flags | O_CLOEXEC, 0600));
}

/* Completes the access to a port that was the last exit. */
static void complete(const struct machine *m)
{
    m->run->immediate_exit = 1;
    if (ioctl(m->vcpu, KVM_RUN, 0) != -1 || errno != EINTR)
        bare_call("complete the last exit", -1);
}

/* Those of KVM's list that it can read; it stops at the first that it cannot. */
static void get_msrs(const struct machine *m, struct msrs *ret)
{
    struct {
        struct kvm_msr_list head;
        uint32_t indices[MSRS];
    } list = { .head.nmsrs = MSRS };
    struct msrs one = { .head.nmsrs = 1 };

    CALL(m->kvm, KVM_GET_MSR_INDEX_LIST, &list);
    for (unsigned i = 0; i < list.head.nmsrs; i++) {
        one.entries[0] = (struct kvm_msr_entry){ .index = list.indices[i] };
        if (CALL(m->vcpu, KVM_GET_MSRS, &one) == 1)
            ret->entries[ret->head.nmsrs++] = one.entries[0];
    }
}

static void get_state(const struct machine *m, struct saved *s)
{
    int xsave_size = CALL(m->vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

    CALL(m->vcpu, KVM_GET_MP_STATE, &s->mp_state);
    CALL(m->vcpu, KVM_GET_REGS, &s->regs);
    CALL(m->vcpu, KVM_GET_SREGS2, &s->sregs);
    bare_call("size of xsave", XSAVE_SIZE - xsave_size);
    if (xsave_size > 0)
        CALL(m->vcpu, KVM_GET_XSAVE2, s->xsave);
    else
        CALL(m->vcpu, KVM_GET_XSAVE, s->xsave);
    CALL(m->vcpu, KVM_GET_XCRS, &s->xcrs);
    CALL(m->vcpu, KVM_GET_DEBUGREGS, &s->debugregs);
    CALL(m->vcpu, KVM_GET_LAPIC, &s->lapic);
    s->tsc_khz = CALL(m->vcpu, KVM_GET_TSC_KHZ, 0);
    get_msrs(m, &s->msrs);
    CALL(m->vcpu, KVM_GET_VCPU_EVENTS, &s->events);
    for (unsigned i = 0; i < CHIPS; i++) {
        s->chips[i].chip_id = i;
        CALL(m->vm, KVM_GET_IRQCHIP, &s->chips[i]);
    }
    CALL(m->vm, KVM_GET_CLOCK, &s->clock);
    s->clock.flags = 0; /* to load the guest's time, not the host's */
}

static int save(const char *kernel, uint64_t size, const char *directory)
{
    static struct saved s;
    int memory = open_in(directory, "memory", O_RDWR | O_CREAT | O_TRUNC);
    int state = open_in(directory, "state", O_WRONLY | O_CREAT | O_TRUNC);
    struct machine m;

    s.ram_size = size;
    bare_call("ftruncate", ftruncate(memory, (off_t)size));
    m = create(memory, size, MAP_SHARED);
    bare_read_kernel(kernel, m.ram);
    bare_get_cpuid(m.kvm, &s.cpuid);
    CALL(m.vcpu, KVM_SET_CPUID2, &s.cpuid);
    bare_enter(m.vcpu);
    while (bare_run(m.vcpu, m.run) != BARE_SERIAL_PORT)
        ;
    complete(&m);
    get_state(&m, &s);
    bare_call("write", write(state, &s, sizeof(s)) == sizeof(s) ? 0 : -1);
    return 0;
}

/* Writes those that differ from a fresh vCPU's, and the TSC. The deadline comes after the local
 * APIC and the TSC, or KVM would drop it. */
static void set_msrs(int vcpu, const struct msrs *saved)
{
    static struct msrs fresh, changed;
    struct kvm_msr_entry *last = changed.entries;

    memcpy(&fresh, saved, sizeof(fresh));
    if (CALL(vcpu, KVM_GET_MSRS, &fresh) != (int)saved->head.nmsrs)
        bare_call("KVM_GET_MSRS", -1);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < saved->head.nmsrs; i++) {
            const struct kvm_msr_entry *entry = &saved->entries[i];

            if ((entry->index == MSR_DEADLINE) == pass &&
                (entry->data != fresh.entries[i].data || entry->index == MSR_TSC))
                *last++ = *entry;
        }
    changed.head.nmsrs = (uint32_t)(last - changed.entries);
    if (CALL(vcpu, KVM_SET_MSRS, &changed) != (int)changed.head.nmsrs)
        bare_call("KVM_SET_MSRS", -1);
}

static void set_state(const struct machine *m, struct saved *s)
{
    if (CALL(m->vcpu, KVM_GET_TSC_KHZ, 0) != s->tsc_khz)
        CALL(m->vcpu, KVM_SET_TSC_KHZ, s->tsc_khz);
    CALL(m->vcpu, KVM_SET_MP_STATE, &s->mp_state);
    CALL(m->vcpu, KVM_SET_REGS, &s->regs);
    CALL(m->vcpu, KVM_SET_SREGS2, &s->sregs);
    CALL(m->vcpu, KVM_SET_XSAVE, s->xsave);
    CALL(m->vcpu, KVM_SET_XCRS, &s->xcrs);
    CALL(m->vcpu, KVM_SET_DEBUGREGS, &s->debugregs);
    CALL(m->vcpu, KVM_SET_LAPIC, &s->lapic);
    set_msrs(m->vcpu, &s->msrs);
    CALL(m->vcpu, KVM_SET_VCPU_EVENTS, &s->events);
    for (unsigned i = 0; i < CHIPS; i++) /* after the local APIC: it injects what is pending */
        CALL(m->vm, KVM_SET_IRQCHIP, &s->chips[i]);
    CALL(m->vm, KVM_SET_CLOCK, &s->clock);
    if (ioctl(m->vcpu, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL) /* no kvmclock: fine */
        bare_call("KVM_KVMCLOCK_CTRL", -1);
}

static int load(const char *directory, bool spare)
{
    static struct saved s;
    int memory = open_in(directory, "memory", O_RDONLY);
    int state = open_in(directory, "state", O_RDONLY);
    struct machine m;
    char order;

    bare_call("read", read(state, &s, sizeof(s)) == sizeof(s) ? 0 : -1);
    m = create(memory, s.ram_size, MAP_PRIVATE);
    CALL(m.vcpu, KVM_SET_CPUID2, &s.cpuid);
    if (spare) {
        bare_call("write", (int)write(1, "ready\n", 6));
        bare_call("order", (int)read(0, &order, 1) - 1);
    }
    set_state(&m, &s);
    if (bare_run(m.vcpu, m.run) != BARE_SERIAL_PORT)
        bare_call("the guest's output", -1);
    bare_print(m.run);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "save"))
        return save(argv[2], strtoull(argv[3], NULL, 10) << 20, argv[4]);
    if (argc == 3 && (!strcmp(argv[1], "load") || !strcmp(argv[1], "spare")))
        return load(argv[2], !strcmp(argv[1], "spare"));
    return 2;
}
