/* SPDX-License-Identifier: MIT */
#include "bare.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KERNEL_OFFSET 0x400 /* in the bzImage, after the boot sector and one of setup */
#define KERNEL_SIZE   0x10000
#define KERNEL_BASE   0x100000

int bare_call(const char *what, int result)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

void bare_read_kernel(const char *kernel, char *ram)
{
    int file = bare_call(kernel, open(kernel, O_RDONLY));

    bare_call("read", (int)pread(file, ram + KERNEL_BASE, KERNEL_SIZE, KERNEL_OFFSET));
    close(file);
}

void bare_get_cpuid(int kvm, struct bare_cpuid *ret)
{
    *ret = (struct bare_cpuid){ .head.nent = BARE_CPUID_ENTRIES };
    CALL(kvm, KVM_GET_SUPPORTED_CPUID, ret);
}

static struct kvm_segment bare_flat(uint8_t type)
{
    return (struct kvm_segment){
        .limit = 0xffffffff, .selector = 8, .type = type, .present = 1, .s = 1, .g = 1, .db = 1
    };
}

void bare_enter(int vcpu)
{
    struct kvm_regs regs = { .rip = KERNEL_BASE, .rflags = 2 };
    struct kvm_sregs sregs;

    CALL(vcpu, KVM_GET_SREGS, &sregs);
    sregs.cs = bare_flat(0xb);
    sregs.ds = sregs.es = sregs.ss = bare_flat(0x3);
    sregs.cr0 |= 1;
    CALL(vcpu, KVM_SET_SREGS, &sregs);
    CALL(vcpu, KVM_SET_REGS, &regs);
}

unsigned bare_run(int vcpu, const struct kvm_run *state)
{
    CALL(vcpu, KVM_RUN, 0);
    if (state->exit_reason != KVM_EXIT_IO)
        bare_call("unexpected exit", -1);
    return state->io.port;
}

void bare_print(const struct kvm_run *state)
{
    bare_call("write", (int)write(1, (const char *)state + state->io.data_offset, 1));
}
