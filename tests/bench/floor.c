/* SPDX-License-Identifier: MIT */

/*
 * The minimal time for starting a guest: only the KVM calls that every VMM needs. Runs the payload
 * "start" from its bzImage on the main thread and ends when the guest does.
 *
 *     floor KERNEL [MEGABYTES [phases]]
 *
 * With "phases" it prints the time after each step, like minivmm --stats.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "bare.h"

enum phase { BEGIN, KVM, VM, IMAGE, SLOTS, IRQCHIP, VCPUS, FIRST_EXIT, PHASES };

static const char *const names[PHASES] = { "begin", "kvm",     "vm",    "image",
                                           "slots", "irqchip", "vcpus", "first-exit" };
static double done_s[PHASES]; /* CLOCK_MONOTONIC */

static void mark(enum phase phase)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (done_s[phase] == 0)
        done_s[phase] = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_phases(void)
{
    fprintf(stderr, "phase monotonic-s took-us\n");
    for (enum phase i = BEGIN; i < PHASES; i++)
        fprintf(stderr, "%s %.6f %.1f\n", names[i], done_s[i],
                i ? (done_s[i] - done_s[i - 1]) * 1e6 : 0);
}

static void add_memory(int vm, const char *kernel, size_t size)
{
    char *ram = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct kvm_userspace_memory_region slot = { .memory_size = size,
                                                .userspace_addr = (uintptr_t)ram };

    bare_call("mmap", ram == MAP_FAILED ? -1 : 0);
    bare_read_kernel(kernel, ram);
    mark(IMAGE);
    CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
    mark(SLOTS);
}

static void add_vcpu(int kvm, int vcpu)
{
    struct bare_cpuid cpuid;

    bare_get_cpuid(kvm, &cpuid);
    CALL(vcpu, KVM_SET_CPUID2, &cpuid);
    bare_enter(vcpu);
}

static void run(int vcpu, const struct kvm_run *state)
{
    for (;;) {
        unsigned port = bare_run(vcpu, state);

        mark(FIRST_EXIT);
        if (port == BARE_EXIT_PORT)
            return;
        if (port == BARE_SERIAL_PORT)
            bare_print(state);
    }
}

int main(int argc, char **argv)
{
    size_t megabytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 128;
    int kvm, size, vm, vcpu;

    mark(BEGIN);
    kvm = bare_call("open /dev/kvm", open("/dev/kvm", O_RDWR));
    size = CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    mark(KVM);
    vm = CALL(kvm, KVM_CREATE_VM, 0);
    mark(VM);
    add_memory(vm, argv[1], megabytes << 20);
    CALL(vm, KVM_SET_TSS_ADDR, BARE_TSS_BASE);
    CALL(vm, KVM_CREATE_IRQCHIP, 0);
    mark(IRQCHIP);
    vcpu = CALL(vm, KVM_CREATE_VCPU, 0);
    add_vcpu(kvm, vcpu);
    mark(VCPUS);
    run(vcpu, mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0));
    if (argc > 3)
        print_phases();
    return 0;
}
