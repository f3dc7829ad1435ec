/* SPDX-License-Identifier: MIT */
#ifndef VMM_KVM_VCPU_H
#define VMM_KVM_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm_run;
struct vm;

/* How often this vCPU left the guest for user space, and what for. Its thread's alone. */
struct vcpu_stats {
    _Alignas(64) uint64_t exits; /* all of them; a cache line is one vCPU's */
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
    bool parked; /* under vm->mutex, like the next */
    bool held;   /* vm_hold_vcpu() */
};

/* Prints why it failed; -errno. */
int vcpu_init(struct vcpu *vcpu, struct vm *vm, unsigned index, size_t run_size);
void vcpu_finish(struct vcpu *vcpu); /* the thread has ended, or never was; accepts a zeroed one */

int vcpu_start(struct vcpu *vcpu); /* its thread begins parked; prints, -errno */

/* Makes the vCPU leave KVM_RUN soon, once its pending register access is complete. Any thread. */
void vcpu_kick(struct vcpu *vcpu);
void vcpu_clear_kick(struct vcpu *vcpu); /* on its own thread, before it runs on */

/*
 * The registers that the vCPU's last exit was about, or NULL: a glance from another thread at one
 * that seems to wait there. May be out of date.
 */
const char *vcpu_region(const struct vcpu *vcpu);

/* Once in a process, before the first vCPU: the signal behind vcpu_kick(). */
int vcpu_setup_kick(void);

#endif
