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

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool go;            /* under the mutex: false until vm_start() has all threads */
    unsigned stopped;   /* under the mutex: vCPU threads that have left the guest for good */
    bool shadow_mapped; /* under the mutex: `shadow` is in the guest's memory map */
    bool stop;          /* atomic: every vCPU thread leaves the guest */
    int all_stopped;    /* an eventfd: signalled by the last one */
};

/* Opens /dev/kvm and checks what it offers. Prints why it cannot, and the remedy; -errno. */
int vm_init(struct vm *vm, const struct bus *mmio, const struct bus *ports,
            const struct event_sink *events, struct timeline *timeline);
void vm_finish(struct vm *vm); /* after vm_stop(); accepts a zeroed or half-made one */

/* The virtual machine itself with `mem` as its RAM, and its vCPUs, not yet running. */
int vm_create(struct vm *vm, const struct guest_memory *mem, unsigned vcpus);

/* Starts a thread for each vCPU. */
int vm_start(struct vm *vm);

/* Asks every vCPU thread to leave the guest; `all_stopped` is signalled when they have. Any thread,
   a vCPU's own included. Does not wait. */
void vm_stop(struct vm *vm);

/* After `all_stopped`, or before vm_start(): joins the threads and gives the machine back to KVM.
 */
void vm_destroy(struct vm *vm);

struct irq_line vm_irq_line(struct vm *vm, uint32_t gsi);
struct notifiers vm_notifiers(struct vm *vm);

/* ioctl() again while it is interrupted: KVM's set-up calls are restartable. */
int vm_ioctl(int fd, unsigned long request, void *arg);

#endif
