/* SPDX-License-Identifier: MIT */
#ifndef VMM_KVM_VM_H
#define VMM_KVM_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/core/event.h"
#include "vmm/core/irq.h"
#include "vmm/core/memory.h"
#include "vmm/core/timeline.h"

/*
 * One KVM virtual machine and its vCPU threads. A reset creates a new one, as the surest way to
 * return all of KVM's state to power-on. Devices and memory outlive it.
 *
 * A vCPU thread either runs the guest or is parked: out of KVM_RUN, with its last register access
 * complete, so that the vCPU's state can be read and written. All are parked until vm_resume().
 */
struct vcpu;
struct vcpu_stats;

#define VM_BOOT_SIZE 37 /* /proc/sys/kernel/random/boot_id, with a 0 */

struct vm {
    int kvm; /* /dev/kvm, open across resets */
    int fd;
    int irqchip; /* the interrupt controller, where it is a device of KVM; or -1 */
    const struct guest_memory *mem;
    struct vcpu *vcpus;
    struct ram_region shadow;          /* shadow pages of virtio registers; size 0: none */
    unsigned vcpus_wanted, vcpu_count; /* configured; created so far */
    bool nested, pmu;                  /* offered to the guest; set after vm_init() */
    bool restoring;                    /* the vCPUs get their state from arch_vm_state() */
    bool rewinding;                    /* the vCPUs have run since they got theirs from it */
    bool real_time;                    /* then the guest's clock goes on as if it had not stopped */
    bool elsewhere;                    /* then the state may be of another host */
    char host_boot[VM_BOOT_SIZE];      /* which boot of the host; zeros: not known. The caller's */
    const struct bus *mmio, *ports;    /* handle the vCPUs' exits; ports on x86 only */
    struct event_sink events;
    struct vcpu_stats *stats;  /* of each vCPU, summed over resets */
    struct timeline *timeline; /* the caller's */
    struct kvm_cpuid2 *cpuid;  /* x86: what the host's KVM supports; arch_ask_host() */
    bool confine_vcpus;        /* their threads call vcpu_confine() */

    int all_parked; /* eventfd: see vm_park() */

    pthread_mutex_t mutex; /* protects all below */
    pthread_cond_t changed;
    bool park;          /* all vCPUs are to park */
    bool notify_parked; /* signal all_parked when they have */
    bool ending;        /* the threads are to end instead of parking */
    unsigned holders;   /* threads in vm_hold_vcpu() */
    unsigned parked;    /* number of parked vCPUs */
    bool shadow_mapped; /* `shadow` is in the guest's memory map */
};

/* Opens /dev/kvm and checks its capabilities. Prints; -errno. */
int vm_init(struct vm *vm, const struct bus *mmio, const struct bus *ports,
            const struct event_sink *events, struct timeline *timeline);
void vm_finish(struct vm *vm); /* also after a failed vm_init() */

/*
 * Creates the virtual machine with `mem` as its RAM, its vCPUs, parked, and threads for all but
 * vCPU 0, which is to have the caller's. Where the host has core scheduling, that shares a core
 * with none but the others. Prints; -errno.
 */
int vm_create(struct vm *vm, const struct guest_memory *mem, unsigned vcpus);

/* Then, and after arch_ask_host(), gives the vCPUs their state at power-on. Prints; -errno. */
int vm_complete(struct vm *vm);

/*
 * The calling thread, which has created the vCPUs, is vCPU 0's from now on: vm_destroy() waits for
 * its end, and it must call vm_run_vcpu(), which returns then.
 */
void vm_take_thread(struct vm *vm);
void vm_run_vcpu(struct vm *vm);

/*
 * Asks every vCPU to park. `all_parked` is signalled once when all have, or at once if they
 * already had. Does not wait. Any thread, a vCPU's included.
 */
void vm_park(struct vm *vm);
void vm_resume(struct vm *vm); /* cancels vm_park(), or unparks the vCPUs; any thread */

/*
 * Parks one vCPU, independently of the others, until vm_release_vcpu(). Waits; -ETIMEDOUT if it
 * has not parked when clock_now_ns() reaches `deadline_ns`: it then runs on. -ESRCH if there is no
 * such vCPU, or no more: a reset ends all. Any thread but a vCPU's and, as a vCPU may be waiting
 * for them, a loop's. A held vCPU counts as parked for vm_park(); vm_resume() does not unpark it.
 */
int vm_hold_vcpu(struct vm *vm, unsigned index, uint64_t deadline_ns);
void vm_release_vcpu(struct vm *vm, unsigned index);

/*
 * Writes to `text` the name of a vCPU that is not parked, and of the register region it may be
 * blocked in, for a message: "vcpu1 (uart16550)". False if all are parked. Any thread.
 */
bool vm_find_unparked(struct vm *vm, char *text, size_t size);

/* Ends the vCPU threads and closes the virtual machine. Any thread but a vCPU's. */
void vm_destroy(struct vm *vm);

/*
 * On the vCPU's thread: blocks while the vCPU is to be parked. True: enter the guest; false: end
 * the thread.
 */
bool vm_wait_to_run(struct vm *vm, struct vcpu *vcpu);

/* Interrupt line and notifiers for devices; both refer to `vm`. */
struct irq_line vm_irq_line(struct vm *vm, uint32_t gsi);
struct notifiers vm_notifiers(struct vm *vm);

/* ioctl() that restarts on EINTR, as KVM's set-up calls allow. */
int vm_ioctl(int fd, unsigned long request, void *arg);

#endif
