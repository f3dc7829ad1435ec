/* SPDX-License-Identifier: MIT */
#ifndef VMM_KVM_ARCH_H
#define VMM_KVM_ARCH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What an architecture provides. KVM runs guests of the host's own architecture only, so exactly
 * one implementation is linked in: plain functions, no table. Those that return int print why they
 * failed and return -errno, unless they say otherwise.
 */
struct board;
struct guest_memory;
struct hardware;
struct hardware_device;
struct image;
struct vcpu;
struct vm;

/* The memory map: where RAM lies, and the platform's own registers and interrupts. */
int arch_describe(struct hardware *hw, unsigned cpus, uint64_t memory);

/* Fills base, size and gsi of the next virtio device; -ENOSPC, unprinted, when the board is full.
 */
int arch_place_virtio(struct hardware *hw, struct hardware_device *ret_place);

/* Serial port, power button, ... onto the board. */
int arch_add_platform(struct board *board);

/* What is to be booted. The images stay open: every reset loads them again. */
struct boot_files {
    const struct image *kernel;
    const struct image *initrd; /* or NULL */
    const struct image *dtb;    /* aarch64: in place of the machine's own tree, or NULL */
    const char *cmdline;
    const char *dump; /* where to write the tables that the guest is given, or NULL */
};

/*
 * The kernel, its parameters and the tables into RAM, and the first vCPU at its entry: at start and
 * after every reset, with RAM all zero and the vCPUs new.
 */
int arch_boot(struct vm *vm, struct guest_memory *mem, struct hardware *hw,
              const struct boot_files *files);

const char *arch_default_console(void); /* for the kernel's command line: "ttyS0" */

const char *arch_kvm_hint(void); /* what to do if there is no /dev/kvm: "load kvm_intel ..." */

unsigned long arch_vm_type(const struct vm *vm); /* what KVM_CREATE_VM takes; vm->mem is known */
int arch_vm_init(struct vm *vm);                 /* before the vCPUs */
int arch_vm_complete(struct vm *vm);             /* after them: what must know how many they are */

/* What KVM_IRQ_LINE calls an interrupt that irqfds and devices know as `gsi`. */
uint32_t arch_irq_line(uint32_t gsi);

/* What was just written at `word` reaches who reads memory past the caches. */
void arch_clean_shadow(const void *word);

int arch_vcpu_init(struct vcpu *vcpu);

/* Answers an exit that only this architecture has. False: nobody knows this exit. */
bool arch_vcpu_exit(struct vcpu *vcpu);

/* Registers and the bytes at the program counter, on the log: KVM could not go on. */
void arch_vcpu_dump(struct vcpu *vcpu);

#endif
