/* SPDX-License-Identifier: MIT */
#ifndef VMM_ARCH_H
#define VMM_ARCH_H

#include <stdbool.h>

#include "firmware/hardware.h"

/*
 * What an architecture provides. KVM runs guests of the host's own architecture only, so exactly
 * one implementation is linked in: plain functions, no table. Those that return int print why they
 * failed and return -errno.
 */
struct boot_entry;
struct config;
struct machine;
struct vcpu;
struct vm;

/* The memory map: where RAM lies, and the platform's own registers and interrupts. Prints. */
int arch_describe(struct hardware *hw, const struct config *config);

/* Where the next virtio device goes: fills base, size and gsi; -ENOSPC when the board is full. */
int arch_place_virtio(struct hardware *hw, struct hardware_device *ret_place);

/* Serial port, power button, ... onto the machine's buses. */
int arch_add_platform(struct machine *machine);

/* The kernel, its parameters and the tables, into RAM: at start and after every reset. */
int arch_load_guest(struct machine *machine, struct boot_entry *ret_entry);

const char *arch_default_console(const struct config *config); /* for the kernel: "ttyS0" */
const char *
arch_default_cmdline(void); /* what this board's kernels want beside console= and root= */

void arch_press_power_button(struct machine *machine);

/* Before the first vCPU: interrupt controller, timers. After it: once. */
int arch_vm_init(struct vm *vm);
int arch_vm_routes(struct vm *vm);

int arch_vcpu_init(struct vcpu *vcpu);
int arch_vcpu_enter(struct vcpu *vcpu, const struct boot_entry *entry); /* the first one */

/* Exits only this architecture has. False: nobody knows this exit. */
bool arch_vcpu_exit(struct vcpu *vcpu);

/* Registers and the bytes at the program counter, on the log: KVM could not go on. */
void arch_vcpu_dump(struct vcpu *vcpu);

#endif
