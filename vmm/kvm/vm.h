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
 * One KVM virtual machine and its vCPU threads. A reset makes a new one: KVM's own state has no
 * other way back to power-on that is as sure. Devices and memory outlive it.
 *
 * A vCPU thread runs the guest, or it is parked: out of KVM_RUN, its last register access complete,
 * so that its state is whole and can be read and written. All are parked until vm_resume().
 */
struct vcpu;
struct vcpu_stats;

struct vm {
    int kvm; /* /dev/kvm, open across resets */
    int fd;
    const struct guest_memory *mem;
    struct vcpu *vcpus;
    struct ram_region shadow;          /* what registers say, for the guest to read; or size 0 */
    unsigned vcpus_wanted, vcpu_count; /* as many as are made so far */
    const struct bus *mmio, *ports;    /* what the vCPUs' exits go to; ports on x86 only */
    struct event_sink events;
    struct vcpu_stats *stats;  /* of each vCPU; over all resets */
    struct timeline *timeline; /* the caller's */

    int all_parked; /* an eventfd: see vm_park() */

    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t changed;
    bool park;          /* every vCPU is to be parked */
    bool tell;          /* and somebody waits for all_parked */
    bool ending;        /* the threads end instead of being parked */
    unsigned parked;    /* how many are */
    bool shadow_mapped; /* `shadow` is in the guest's memory map */
};

/* Opens /dev/kvm and checks what it offers. Prints why it cannot, and the remedy; -errno. */
int vm_init(struct vm *vm, const struct bus *mmio, const struct bus *ports,
            const struct event_sink *events, struct timeline *timeline);
void vm_finish(struct vm *vm); /* accepts a half-made one */

/* The virtual machine itself with `mem` as its RAM, and its vCPUs, not yet running. */
int vm_create(struct vm *vm, const struct guest_memory *mem, unsigned vcpus);

/* Starts a thread for each vCPU, parked. */
int vm_start(struct vm *vm);

/*
 * Asks every vCPU to park; `all_parked` is signalled once when they are, or at once if they are
 * already. Any thread, a vCPU's own included. Does not wait.
 */
void vm_park(struct vm *vm);
void vm_resume(struct vm *vm); /* takes that back, or lets them go on; any thread */

/*
 * Parks one vCPU by itself, whatever the others do, until vm_release_vcpu(); -ETIMEDOUT if it does
 * not get there by `deadline_ns`, and it runs on. Any thread but a vCPU's. It counts as parked for
 * vm_park(), and vm_resume() leaves it where it is.
 */
int vm_hold_vcpu(struct vm *vm, unsigned index, uint64_t deadline_ns);
void vm_release_vcpu(struct vm *vm, unsigned index);

/*
 * Which vCPU is not parked, and what of the machine it waits in, for a message about one that does
 * not come: "vcpu1 (uart16550)". False if all are parked. Any thread.
 */
bool vm_find_busy(struct vm *vm, char *text, size_t size);

/* Ends the threads, wherever they are, and gives the machine back to KVM. Not a vCPU's thread. */
void vm_destroy(struct vm *vm);

/*
 * For the vCPU's thread: parks while it is asked to. False if the thread is to end, else it may
 * enter the guest.
 */
bool vm_await_go(struct vm *vm, struct vcpu *vcpu);

struct irq_line vm_irq_line(struct vm *vm, uint32_t gsi);
struct notifiers vm_notifiers(struct vm *vm);

/* ioctl() again while it is interrupted: KVM's set-up calls are restartable. */
int vm_ioctl(int fd, unsigned long request, void *arg);

#endif
