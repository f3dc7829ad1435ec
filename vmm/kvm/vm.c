/* SPDX-License-Identifier: MIT */
#include "vmm/kvm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/vcpu.h"

/* <linux/prctl.h> of Linux 5.14 */
#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE        62
#define PR_SCHED_CORE_CREATE 1
#endif
#ifndef PR_SCHED_CORE_SCOPE_THREAD
#define PR_SCHED_CORE_SCOPE_THREAD 0
#endif

int vm_ioctl(int fd, unsigned long request, void *arg)
{
    int result;

    do
        result = ioctl(fd, request, arg);
    while (result < 0 && errno == EINTR);
    return result;
}

static int vm_open_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd >= 0)
        return fd;
    if (errno == EACCES || errno == EPERM)
        return log_error(errno, "open /dev/kvm (join its group: sudo usermod -aG kvm $USER, "
                                "then log in again)");
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
        return log_error(errno, "open /dev/kvm (%s)", arch_kvm_hint());
    return log_error(errno, "open /dev/kvm");
}

/* Required capabilities; checked here so that a missing one is reported by name. */
static int vm_check_kvm(int kvm)
{
    static const struct {
        int capability;
        const char *name;
    } needed[] = {
        { KVM_CAP_USER_MEMORY, "user memory" },
        { KVM_CAP_IRQCHIP, "an interrupt controller in the kernel" },
        { KVM_CAP_IRQFD, "irqfd" },
        { KVM_CAP_IOEVENTFD, "ioeventfd" },
        { KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
    };
    int version = ioctl(kvm, KVM_GET_API_VERSION, NULL);

    if (version != KVM_API_VERSION)
        return log_refuse(ENOTSUP, "/dev/kvm has API version %d; minivmm needs %d", version,
                          KVM_API_VERSION);
    for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        if (ioctl(kvm, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
            return log_refuse(ENOTSUP, "this host's KVM is too old: it lacks %s", needed[i].name);
    return 0;
}

int vm_init(struct vm *vm, const struct bus *mmio, const struct bus *ports,
            const struct event_sink *events, struct timeline *timeline)
{
    int error;

    *vm = (struct vm){ .fd = -1,
                       .irqchip = -1,
                       .mmio = mmio,
                       .ports = ports,
                       .events = *events,
                       .timeline = timeline };

    pthread_mutex_init(&vm->mutex, NULL);
    clock_cond_init(&vm->changed);
    vm->all_parked = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->all_parked < 0)
        return log_error(errno, "create an eventfd");

    vm->kvm = vm_open_kvm();
    if (vm->kvm < 0)
        return vm->kvm;
    error = vm_check_kvm(vm->kvm);
    return error ? error : vcpu_setup_kick();
}

void vm_finish(struct vm *vm)
{
    vm_destroy(vm);
    free(vm->stats);
    vm->stats = NULL;
    free(vm->cpuid);
    vm->cpuid = NULL;
    if (vm->kvm > 0)
        close(vm->kvm);
    if (vm->all_parked > 0)
        close(vm->all_parked);
}

/* Numbers of KVM's memory slots. */
enum vm_slot {
    VM_SLOT_RAM,                                         /* one for each region */
    VM_SLOT_SHADOW = VM_SLOT_RAM + GUEST_MEMORY_REGIONS, /* shadow pages of virtio devices */
};

static int vm_add_slot(struct vm *vm, unsigned slot, const struct ram_region *region,
                       uint32_t flags)
{
    struct kvm_userspace_memory_region wanted = {
        .slot = slot,
        .flags = flags,
        .guest_phys_addr = region->base,
        .memory_size = region->size,
        .userspace_addr = (uintptr_t)region->host,
    };

    return vm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &wanted) < 0 ? -errno : 0;
}

static int vm_add_memory(struct vm *vm, const struct guest_memory *mem)
{
    const struct ram_region *region;

    for (unsigned i = 0; (region = guest_memory_region(mem, i)); i++) {
        int error = vm_add_slot(vm, VM_SLOT_RAM + i, region, 0);

        if (error)
            return log_error(-error, "--memory: KVM cannot map %llu MiB as one slot; ask for less",
                             (unsigned long long)region->size >> 20);
    }
    return 0;
}

/* Allocated once: the counters outlive a reset. */
static bool vm_create_stats(struct vm *vm, unsigned vcpus)
{
    size_t size = vcpus * sizeof(*vm->stats);

    if (vm->stats)
        return true;
    vm->stats = aligned_alloc(_Alignof(struct vcpu_stats), size);
    return vm->stats && memset(vm->stats, 0, size);
}

/*
 * Lets this thread and those that it will start, the vCPUs', share a core only with each other:
 * what a guest can measure of a core's other hyper-thread is then its own. Fails where the kernel
 * lacks core scheduling, or has no hyper-threads.
 */
static void vm_share_cores(void)
{
    if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD, 0) < 0)
        log_debug("no core scheduling: %s", strerror(errno));
}

static void vm_set_vcpu_count(struct vm *vm, unsigned count)
{
    LOCK_SCOPE(&vm->mutex);
    vm->vcpu_count = count;
}

static int vm_add_vcpus(struct vm *vm, unsigned count)
{
    int most = ioctl(vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    int run_size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
    int error;

    if (most > 0 && count > (unsigned)most)
        return log_refuse(EINVAL, "--cpus %u: this host's KVM allows %d", count, most);
    if (run_size < 0)
        return log_error(errno, "ask KVM for the size of a vCPU");

    vm->vcpus = calloc(count, sizeof(*vm->vcpus));
    if (!vm->vcpus || !vm_create_stats(vm, count))
        return log_error(ENOMEM, "create vCPUs");
    vm_share_cores();
    for (unsigned i = 0; i < count; i++) {
        error = vcpu_init(&vm->vcpus[i], vm, i, (size_t)run_size);
        vm_set_vcpu_count(vm, i + 1);
        if (error)
            return error;
    }
    return 0;
}

int vm_create(struct vm *vm, const struct guest_memory *mem, unsigned vcpus)
{
    int error;

    vm->park = true;
    vm->notify_parked = vm->ending = vm->shadow_mapped = false;
    vm->parked = 0;
    vm->mem = mem;
    vm->vcpus_wanted = vcpus;
    vm->fd = vm_ioctl(vm->kvm, KVM_CREATE_VM, (void *)arch_vm_type(vm));
    if (vm->fd < 0)
        return log_error(errno, "create a virtual machine");
    timeline_mark(vm->timeline, PHASE_VM);

    /* Memory before the interrupt controller: adding a slot is fastest in an empty VM. */
    if ((error = vm_add_memory(vm, mem)))
        return error;
    timeline_mark(vm->timeline, PHASE_SLOTS);
    if ((error = arch_vm_init(vm)))
        return error;
    timeline_mark(vm->timeline, PHASE_IRQCHIP);
    return vm_add_vcpus(vm, vcpus);
}

int vm_complete(struct vm *vm)
{
    int error = 0;

    for (unsigned i = 0; i < vm->vcpu_count && !error; i++)
        error = arch_vcpu_init(&vm->vcpus[i]);
    if (error || (error = arch_vm_complete(vm)))
        return error;
    timeline_mark(vm->timeline, PHASE_VCPUS);
    return 0;
}

void vm_take_thread(struct vm *vm)
{
    vcpu_take_thread(&vm->vcpus[0]);
}

void vm_run_vcpu(struct vm *vm)
{
    vcpu_thread(&vm->vcpus[0]);
}

/* With the mutex held. */
static void vm_notify_if_parked(struct vm *vm)
{
    if (!vm->notify_parked || vm->parked < vm->vcpu_count)
        return;
    vm->notify_parked = false;
    if (write(vm->all_parked, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
        log_error(errno, "report that the vCPUs are parked");
}

bool vm_wait_to_run(struct vm *vm, struct vcpu *vcpu)
{
    LOCK_SCOPE(&vm->mutex);
    vcpu->parked = true;
    vm->parked++;
    vm_notify_if_parked(vm);
    pthread_cond_broadcast(&vm->changed); /* for vm_hold_vcpu() */
    while ((vm->park || vcpu->held) && !vm->ending)
        pthread_cond_wait(&vm->changed, &vm->mutex);
    vcpu->parked = false;
    vm->parked--;
    if (vm->ending) /* perhaps before KVM's vCPU was created */
        return false;
    vcpu_clear_kick(vcpu); /* with the mutex held: any later request kicks it again */
    return true;
}

void vm_park(struct vm *vm)
{
    LOCK_SCOPE(&vm->mutex);
    vm->park = vm->notify_parked = true;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (!vm->vcpus[i].parked)
            vcpu_kick(&vm->vcpus[i]);
    vm_notify_if_parked(vm);
}

void vm_resume(struct vm *vm)
{
    LOCK_SCOPE(&vm->mutex);
    timeline_mark(vm->timeline, PHASE_THREADS);
    vm->park = vm->notify_parked = false;
    pthread_cond_broadcast(&vm->changed);
}

int vm_hold_vcpu(struct vm *vm, unsigned index, uint64_t deadline_ns)
{
    struct timespec deadline = clock_timespec(deadline_ns);
    struct vcpu *vcpu;
    int error = 0;

    LOCK_SCOPE(&vm->mutex);
    if (index >= vm->vcpu_count || vm->ending)
        return -ESRCH;
    vcpu = &vm->vcpus[index];
    vcpu->held = true;
    vm->holders++;
    if (!vcpu->parked)
        vcpu_kick(vcpu);
    while (!error && !vcpu->parked && !vm->ending)
        error = pthread_cond_timedwait(&vm->changed, &vm->mutex, &deadline);
    vm->holders--;
    vcpu->held = vcpu->parked && !vm->ending;
    pthread_cond_broadcast(&vm->changed); /* vm_destroy() may wait */
    return vcpu->held ? 0 : vm->ending ? -ESRCH : -ETIMEDOUT;
}

void vm_release_vcpu(struct vm *vm, unsigned index)
{
    LOCK_SCOPE(&vm->mutex);
    if (index < vm->vcpu_count)
        vm->vcpus[index].held = false;
    pthread_cond_broadcast(&vm->changed);
}

bool vm_find_unparked(struct vm *vm, char *text, size_t size)
{
    LOCK_SCOPE(&vm->mutex);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (!vm->vcpus[i].parked) {
            const char *region = vcpu_region(&vm->vcpus[i]);

            snprintf(text, size, region ? "vcpu%u (%s)" : "vcpu%u", i, region);
            return true;
        }
    return false;
}

/* Asks every vCPU thread to end, and waits until no thread is in vm_hold_vcpu(). */
static void vm_end_vcpus(struct vm *vm)
{
    LOCK_SCOPE(&vm->mutex);
    vm->ending = true;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i].run && !vm->vcpus[i].parked)
            vcpu_kick(&vm->vcpus[i]);
    pthread_cond_broadcast(&vm->changed);
    while (vm->holders > 0)
        pthread_cond_wait(&vm->changed, &vm->mutex);
}

static void vm_free_vcpus(struct vm *vm)
{
    LOCK_SCOPE(&vm->mutex);
    free(vm->vcpus);
    vm->vcpus = NULL;
    vm->vcpu_count = 0;
}

void vm_destroy(struct vm *vm)
{
    if (vm->vcpu_count > 0) {
        vm_end_vcpus(vm);
        for (unsigned i = 0; i < vm->vcpu_count; i++)
            vcpu_finish(&vm->vcpus[i]);
        vm_free_vcpus(vm);
    }
    if (vm->irqchip >= 0)
        close(vm->irqchip); /* it keeps the virtual machine alive */
    if (vm->fd >= 0)
        close(vm->fd);
    vm->irqchip = vm->fd = -1;
}

static void vm_set_irq(void *chip, uint32_t pin, bool level)
{
    const struct vm *vm = chip;
    struct kvm_irq_level irq = { .irq = arch_irq_line(pin), .level = level };

    if (vm_ioctl(vm->fd, KVM_IRQ_LINE, &irq) < 0)
        log_debug("interrupt %u: %d", pin, errno);
}

struct irq_line vm_irq_line(struct vm *vm, uint32_t gsi)
{
    return (struct irq_line){ .set = vm_set_irq, .chip = vm, .pin = gsi };
}

static int vm_assign_irqfd(void *opaque, uint32_t gsi, int eventfd, bool assign)
{
    const struct vm *vm = opaque;
    struct kvm_irqfd irqfd = { .fd = (uint32_t)eventfd,
                               .gsi = gsi,
                               .flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

    if (!assign && vm->fd < 0)
        return 0; /* they went with the virtual machine */
    return vm_ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

static int vm_assign_ioeventfd(void *opaque, uint64_t addr, uint32_t value, int eventfd,
                               bool assign)
{
    const struct vm *vm = opaque;
    unsigned deassign = assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN;
    struct kvm_ioeventfd ioeventfd = { .addr = addr,
                                       .len = sizeof(value),
                                       .datamatch = value,
                                       .fd = eventfd,
                                       .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | deassign };

    if (!assign && vm->fd < 0)
        return 0;
    return vm_ioctl(vm->fd, KVM_IOEVENTFD, &ioeventfd) < 0 ? -errno : 0;
}

/* Read-only memslot: writes still exit. Added by the first driver, because adding one is slow. */
static int vm_map_shadow(void *opaque)
{
    struct vm *vm = opaque;
    int error = 0;

    LOCK_SCOPE(&vm->mutex);
    if (vm->shadow.size && !vm->shadow_mapped)
        error = vm_add_slot(vm, VM_SLOT_SHADOW, &vm->shadow, KVM_MEM_READONLY);
    vm->shadow_mapped |= !error;
    return error;
}

struct notifiers vm_notifiers(struct vm *vm)
{
    return (struct notifiers){
        .irqfd = vm_assign_irqfd,
        .ioeventfd = vm_assign_ioeventfd,
        .map_shadow = vm_map_shadow,
        .clean_shadow = arch_clean_shadow,
        .vm = vm,
    };
}
