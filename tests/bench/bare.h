/* SPDX-License-Identifier: MIT */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

/*
 * What the floors of a start and of a restore have in common: one vCPU that runs a payload from its
 * bzImage, by bare KVM calls. Whatever fails ends the program with a message.
 */
#define BARE_TSS_BASE      0xfffbd000
#define BARE_CPUID_ENTRIES 100

struct bare_cpuid {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[BARE_CPUID_ENTRIES];
};

int bare_call(const char *what, int result);

#define CALL(fd, request, argument) bare_call(#request, ioctl(fd, request, argument))

/* Reads the payload's 32-bit part into guest memory, to where bare_enter() has the vCPU begin. */
void bare_read_kernel(const char *kernel, char *ram);
void bare_enter(int vcpu);

/* What KVM supports. */
void bare_get_cpuid(int kvm, struct bare_cpuid *ret);

/* Runs the guest to its next access to a port, and returns the port. */
#define BARE_SERIAL_PORT 0x3f8
#define BARE_EXIT_PORT   0xf4
unsigned bare_run(int vcpu, const struct kvm_run *state);

/* Writes the byte for the serial port to standard output. */
void bare_print(const struct kvm_run *state);

#endif
