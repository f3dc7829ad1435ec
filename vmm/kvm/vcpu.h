/* SPDX-License-Identifier: MIT */
#ifndef VMM_KVM_VCPU_H
#define VMM_KVM_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm_run;
struct vm;

/* This vCPU's exits to user space, by reason. Written by its thread only. */
struct vcpu_stats {
    _Alignas(64) uint64_t exits; /* all; aligned so that vCPUs share no cache line */
    uint64_t mmio_reads, mmio_writes, port_ins, port_outs;
    uint64_t interrupted; /* by a signal */
};

struct vcpu {
    struct vm *vm;
    unsigned index;
    int fd;
    struct kvm_run *run; /* shared with KVM */
    size_t run_size;     /* bytes */
    struct vcpu_stats *stats;
    pthread_t thread;
    bool started;
    bool parked; /* protected by vm->mutex, like `held` */
    bool held;   /* by vm_hold_vcpu() */
};

/*
 * Creates KVM's vCPU and, if it is not the first one, its thread, which parks. Prints; -errno.
 * vcpu_finish() is due anyway.
 */
int vcpu_init(struct vcpu *vcpu, struct vm *vm, unsigned index, size_t run_size);
void vcpu_finish(struct vcpu *vcpu); /* joins its thread; accepts a zeroed vCPU */

void vcpu_take_thread(struct vcpu *vcpu); /* the caller's, which must go on by vcpu_thread() */
void *vcpu_thread(void *vcpu);            /* runs a struct vcpu until vm_destroy() */

/* Makes the vCPU leave KVM_RUN once its pending register access is complete. Any thread. */
void vcpu_kick(struct vcpu *vcpu);
void vcpu_clear_kick(struct vcpu *vcpu); /* on its own thread, before KVM_RUN */

/*
 * The name of the register region of the vCPU's last exit, or NULL. For messages: read from another
 * thread, so it may be out of date.
 */
const char *vcpu_region(const struct vcpu *vcpu);

/* Installs the handler of the signal that vcpu_kick() sends. Once per process, before any vCPU. */
int vcpu_setup_kick(void);

#endif
