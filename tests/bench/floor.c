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
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KERNEL_OFFSET 0x400 /* in the bzImage, after the boot sector and one of setup */
#define KERNEL_BASE   0x100000
#define KERNEL_ENTRY  0x200
#define KVM_TSS_BASE  0xfffbd000
#define SERIAL_PORT   0x3f8
#define EXIT_PORT     0xf4
#define CPUID_ENTRIES 100

static int call(const char *what, int result)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

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

#define CALL(fd, request, argument) call(#request, ioctl(fd, request, argument))

static void add_memory(int vm, const char *kernel, size_t size)
{
    char *ram = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct kvm_userspace_memory_region slot = { .memory_size = size,
                                                .userspace_addr = (uintptr_t)ram };
    int file = call(kernel, open(kernel, O_RDONLY));

    call("mmap", ram == MAP_FAILED ? -1 : 0);
    call("read", (int)pread(file, ram + KERNEL_BASE, 1 << 16, KERNEL_OFFSET));
    mark(IMAGE);
    CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
    mark(SLOTS);
}

static void set_cpuid(int kvm, int vcpu)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
    } cpuid = { .head.nent = CPUID_ENTRIES };

    CALL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
    CALL(vcpu, KVM_SET_CPUID2, &cpuid);
}

static struct kvm_segment flat(uint8_t type)
{
    return (struct kvm_segment){
        .limit = 0xffffffff, .selector = 8, .type = type, .present = 1, .s = 1, .g = 1, .db = 1
    };
}

static void set_registers(int vcpu)
{
    struct kvm_regs regs = { .rip = KERNEL_BASE + KERNEL_ENTRY, .rflags = 2 };
    struct kvm_sregs sregs;

    CALL(vcpu, KVM_GET_SREGS, &sregs);
    sregs.cs = flat(0xb);
    sregs.ds = sregs.es = sregs.ss = flat(0x3);
    sregs.cr0 |= 1;
    CALL(vcpu, KVM_SET_SREGS, &sregs);
    CALL(vcpu, KVM_SET_REGS, &regs);
}

static void run(int vcpu, struct kvm_run *state)
{
    for (;;) {
        CALL(vcpu, KVM_RUN, 0);
        mark(FIRST_EXIT);
        if (state->exit_reason != KVM_EXIT_IO)
            call("unexpected exit", -1);
        if (state->io.port == EXIT_PORT)
            return;
        if (state->io.port == SERIAL_PORT)
            call("write", (int)write(1, (char *)state + state->io.data_offset, 1));
    }
}

int main(int argc, char **argv)
{
    size_t megabytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 128;
    int kvm, size, vm, vcpu;

    mark(BEGIN);
    kvm = call("open /dev/kvm", open("/dev/kvm", O_RDWR));
    size = CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    mark(KVM);
    vm = CALL(kvm, KVM_CREATE_VM, 0);
    mark(VM);
    add_memory(vm, argv[1], megabytes << 20);
    CALL(vm, KVM_SET_TSS_ADDR, KVM_TSS_BASE);
    CALL(vm, KVM_CREATE_IRQCHIP, 0);
    mark(IRQCHIP);
    vcpu = CALL(vm, KVM_CREATE_VCPU, 0);
    set_cpuid(kvm, vcpu);
    set_registers(vcpu);
    mark(VCPUS);
    run(vcpu, mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0));
    if (argc > 3)
        print_phases();
    return 0;
}
