/* SPDX-License-Identifier: MIT */
#ifndef VMM_KVM_ARCH_H
#define VMM_KVM_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/seccomp.h"

/*
 * What an architecture implements. KVM runs guests of the host's architecture only, so exactly one
 * implementation is linked in: plain functions, no table. Unless stated otherwise, functions that
 * return int print the reason of a failure and return -errno.
 */
struct board;
struct guest_memory;
struct hardware;
struct hardware_device;
struct image;
struct state;
struct vcpu;
struct vm;

/* Fills the memory map: RAM, and the registers and interrupts of the platform's devices. */
int arch_describe(struct hardware *hw, unsigned cpus, uint64_t memory);

/* Fills base, size and gsi of the next virtio device. -ENOSPC, not printed: no place is left. */
int arch_place_virtio(struct hardware *hw, struct hardware_device *ret_place);

/* Adds the platform's devices to the board: serial port, power button, ... */
int arch_add_platform(struct board *board);

/* What to boot. The images stay open: every reset loads them again. */
struct boot_files {
    const struct image *kernel;
    const struct image *unpacked; /* x86: what a bzImage contains, or NULL */
    const struct image *initrd;   /* or NULL */
    const struct image *dtb;      /* aarch64: replaces the generated device tree; or NULL */
    const char *cmdline;
    const char *dump; /* path to write the guest's ACPI tables or device tree to, or NULL */
};

/*
 * Loads the kernel, its parameters and the tables into RAM and sets the first vCPU's entry point.
 * Called at start and after every reset, with zeroed RAM and new vCPUs.
 */
int arch_boot(struct vm *vm, struct guest_memory *mem, struct hardware *hw,
              const struct boot_files *files);

/*
 * Loads what arch_boot() would, but needs no KVM: finds out whether the files can be booted.
 * arch_boot() may still describe other interrupt controllers or counters.
 */
int arch_try_boot(struct guest_memory *mem, const struct hardware *hw,
                  const struct boot_files *files);

const char *arch_default_console(void); /* for the kernel's command line: "ttyS0" */

const char *arch_kvm_hint(void); /* the remedy if /dev/kvm is missing: "load kvm_intel ..." */

/*
 * Asks the host for what arch_vcpu_init() will need, once for all resets; vm_finish() frees it. On
 * another thread than vm_create(), at the same time: it may take as long. A machine that starts
 * from a snapshot needs it for its first reset only.
 */
int arch_ask_host(struct vm *vm);

unsigned long arch_vm_type(const struct vm *vm); /* KVM_CREATE_VM's argument; vm->mem is set */
int arch_vm_init(struct vm *vm);                 /* before the vCPUs are created */
int arch_vm_complete(struct vm *vm);             /* after the vCPUs are created */

/* System calls for a start and a reset; those of a vCPU's thread. Besides kvm_rules, vcpu_rules. */
extern const struct seccomp_list arch_rules, arch_vcpu_rules;

/* What arch_vm_state() calls to save, and to load. */
extern const struct seccomp_list arch_save_rules, arch_load_rules;

/* Converts a GSI, as irqfds and devices use it, to KVM_IRQ_LINE's number. */
uint32_t arch_irq_line(uint32_t gsi);

/* Cleans the cache line of `word` in the shadow page: the guest may read it uncached. */
void arch_clean_shadow(const void *word);

int arch_vcpu_init(struct vcpu *vcpu);

/*
 * Saves KVM's state of a machine whose vCPUs are parked, or loads it into a new one, after
 * arch_vm_complete() and its devices: several sections of `s`, to which errors belong.
 */
void arch_vm_state(struct vm *vm, struct state *s);

/*
 * Whether the reset that the guest has just asked for is a warm one. Linux asks for one only if its
 * command line says so (reboot=). On the thread of the vCPU that asked.
 */
bool arch_reset_is_warm(const struct vm *vm);

/* Handles an exit that only this architecture has. False: an unknown exit. */
bool arch_vcpu_exit(struct vcpu *vcpu);

/* Logs registers and the bytes at the program counter, after a failure of KVM. */
void arch_vcpu_dump(struct vcpu *vcpu);

#endif
