/* SPDX-License-Identifier: MIT */
#include "vmm/kvm/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/seccomp.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/confine.h"
#include "vmm/kvm/vm.h"

#define KICK_SIGNAL SIGUSR1

static void vcpu_on_kick(int signal)
{
    /* Nothing to do: the signal makes KVM_RUN return EINTR. */
}

int vcpu_setup_kick(void)
{
    struct sigaction action = { .sa_handler = vcpu_on_kick };

    if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
        return log_error(errno, "install a signal handler");
    return 0;
}

static void vcpu_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint64_t value = 0;

    if (run->mmio.is_write) {
        vcpu->stats->mmio_writes++;
        memcpy(&value, run->mmio.data, run->mmio.len);
        bus_write(vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.len, value);
    } else {
        vcpu->stats->mmio_reads++;
        value = bus_read(vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.len);
        memcpy(run->mmio.data, &value, run->mmio.len);
    }
}

static void vcpu_system_event(struct vcpu *vcpu)
{
    enum guest_event event = GUEST_KVM_FAILURE;

    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        event = GUEST_POWER_OFF;
        break;
    case KVM_SYSTEM_EVENT_RESET:
        event = GUEST_RESET;
        break;
    case KVM_SYSTEM_EVENT_CRASH:
        event = GUEST_PANIC;
        break;
    }
    event_report(&vcpu->vm->events, event, 0);
}

/* KVM cannot run the vCPU any more: logs the reason and the vCPU's state. */
static void vcpu_fail(struct vcpu *vcpu, const char *why, unsigned long long detail)
{
    log_refuse(EIO, "vCPU %u: KVM could not go on: %s (%#llx)", vcpu->index, why, detail);
    arch_vcpu_dump(vcpu);
    event_report(&vcpu->vm->events, GUEST_KVM_FAILURE, 0);
}

/* Handles one exit. */
static void vcpu_exit(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_MMIO:
        vcpu_mmio(vcpu);
        break;
    case KVM_EXIT_INTR:
        vcpu->stats->interrupted++;
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        vcpu_system_event(vcpu);
        break;
    case KVM_EXIT_SHUTDOWN:
        event_report(&vcpu->vm->events, GUEST_TRIPLE_FAULT, 0);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        vcpu_fail(vcpu, "entry failed", run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        vcpu_fail(vcpu, "internal error", run->internal.suberror);
        break;
    default:
        if (!arch_vcpu_exit(vcpu))
            vcpu_fail(vcpu, "unknown exit", run->exit_reason);
    }
}

/*
 * Runs the guest until the vCPU is kicked. Returns only after an EINTR, when KVM has completed the
 * last register access and the vCPU's state is consistent.
 */
static void vcpu_run(struct vcpu *vcpu)
{
    for (;;) {
        int result = ioctl(vcpu->fd, KVM_RUN, NULL);

        if (vcpu->stats->exits++ == 0 && vcpu->index == 0)
            timeline_mark(vcpu->vm->timeline, PHASE_EXIT);
        if (result == 0) {
            vcpu_exit(vcpu);
        } else if (errno == EINTR) {
            vcpu->stats->interrupted++;
            if (__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_SEQ_CST))
                return;
        } else if (errno != EAGAIN) { /* EAGAIN: a secondary vCPU was woken up */
            vcpu_fail(vcpu, strerror(errno), 0);
            return;
        }
    }
}

void vcpu_take_thread(struct vcpu *vcpu)
{
    vcpu->thread = pthread_self();
    vcpu->started = true;
}

void *vcpu_thread(void *arg)
{
    struct vcpu *vcpu = arg;
    char name[16];
    bool ready = false;

    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    pthread_setname_np(pthread_self(), name);
    while (vm_wait_to_run(vcpu->vm, vcpu)) {
        /* Not before: the process's filter, which comes first, is loaded beside a start. */
        ready = ready || !vcpu->vm->confine_vcpus || vcpu_confine() == 0;
        if (vcpu->index == 0)
            timeline_mark(vcpu->vm->timeline, PHASE_ENTRY);
        if (ready)
            vcpu_run(vcpu);
        else
            event_report(&vcpu->vm->events, GUEST_KVM_FAILURE, 0);
    }
    return NULL;
}

static int vcpu_start_thread(struct vcpu *vcpu)
{
    int error = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);

    vcpu->started = !error;
    return error ? log_error(error, "start the thread of vCPU %u%s", vcpu->index,
                             seccomp_thread_hint(error))
                 : 0;
}

int vcpu_init(struct vcpu *vcpu, struct vm *vm, unsigned index, size_t run_size)
{
    int error;

    *vcpu =
        (struct vcpu){ .vm = vm, .index = index, .run_size = run_size, .stats = &vm->stats[index] };
    error = index > 0 ? vcpu_start_thread(vcpu) : 0;
    if (error)
        return error;
    vcpu->fd = vm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (vcpu->fd < 0)
        return log_error(errno, "create vCPU %u", index);
    vcpu->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        error = log_error(errno, "map vCPU %u", index);
        close(vcpu->fd);
        vcpu->run = NULL;
        return error;
    }
    return 0;
}

void vcpu_finish(struct vcpu *vcpu)
{
    if (vcpu->started)
        pthread_join(vcpu->thread, NULL);
    if (vcpu->run) {
        munmap(vcpu->run, vcpu->run_size);
        close(vcpu->fd);
    }
    *vcpu = (struct vcpu){ 0 };
}

void vcpu_kick(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (vcpu->started)
        pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_clear_kick(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

const char *vcpu_region(const struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    const struct io_region *region = NULL;

    if (run->exit_reason == KVM_EXIT_MMIO)
        region = bus_region(vcpu->vm->mmio, run->mmio.phys_addr);
    else if (run->exit_reason == KVM_EXIT_IO)
        region = bus_region(vcpu->vm->ports, run->io.port);
    return region ? region->name : NULL;
}
