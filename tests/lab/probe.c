// SPDX-License-Identifier: MIT
/*
 * Prints the kind of /dev/kvm: native, emulated or none.
 *
 * A guest counts down from 100,000, which takes less than a millisecond on
 * hardware, and a hundred times as long where the kernel interprets ring 0.
 * CPU flags do not tell the two apart, so it is measured.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GUEST_MEMORY 0x10000
#define GUEST_CODE   0x1000
#define NATIVE_LIMIT 0.010
#define RUNS         3
#define TIME_LIMIT   5

#ifdef __x86_64__
static const uint8_t payload[] = {
    0x66, 0xb9, 0xa0, 0x86, 0x01, 0x00, /* mov ecx, 100000 */
    0x66, 0x49,                         /* dec ecx */
    0x75, 0xfc,                         /* jnz back to dec */
    0xf4,                               /* hlt */
};
#else
static const uint32_t payload[] = {
    0xd503201f, /* nop: skipped in later runs, in which KVM completes the store first */
    0xd290d400, /* mov x0, #0x86a0 */
    0xf2a00020, /* movk x0, #1, lsl #16 */
    0xf1000400, /* subs x0, x0, #1 */
    0x54ffffe1, /* b.ne back to subs */
    0xd2800002, /* mov x2, #0 */
    0xf2a20002, /* movk x2, #0x1000, lsl #16 */
    0xf9000040, /* str x0, [x2]: MMIO exit */
    0x14000000, /* b . */
};
#endif

static void __attribute__((noreturn)) none(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    puts("none");
    exit(0);
}

static void on_alarm(int signal)
{
    (void)signal;
    static const char text[] = "emulated\n";
    ssize_t written = write(STDOUT_FILENO, text, sizeof(text) - 1);
    _exit(written < 0);
}

static int create_vm(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        none("open /dev/kvm");
    int vm;
    do
        vm = ioctl(kvm, KVM_CREATE_VM, 0UL);
    while (vm < 0 && errno == EINTR);
    if (vm < 0)
        none("KVM_CREATE_VM");
    return vm;
}

static void add_memory(int vm)
{
    void *memory =
        mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        none("mmap");
    memcpy((uint8_t *)memory + GUEST_CODE, payload, sizeof(payload));
    struct kvm_userspace_memory_region slot = {
        .memory_size = GUEST_MEMORY,
        .userspace_addr = (uintptr_t)memory,
    };
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        none("KVM_SET_USER_MEMORY_REGION");
}

#ifdef __x86_64__
static void set_registers(int vm, int vcpu)
{
    (void)vm;
    struct kvm_sregs sregs;
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        none("KVM_GET_SREGS");
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2 };
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
        none("KVM_SET_REGS");
}
#else
static void set_registers(int vm, int vcpu)
{
    struct kvm_vcpu_init init;
    if (ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init) < 0 || ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) < 0)
        none("KVM_ARM_VCPU_INIT");
    uint64_t start = GUEST_CODE;
    struct kvm_one_reg pc = {
        .id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pc),
        .addr = (uintptr_t)&start,
    };
    if (ioctl(vcpu, KVM_SET_ONE_REG, &pc) < 0)
        none("KVM_SET_ONE_REG");
}
#endif

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Seconds that the payload takes, best of RUNS: the first run includes page faults. */
static double measure(int vm, int vcpu)
{
    double best = TIME_LIMIT;
    for (unsigned i = 0; i < RUNS; i++) {
        set_registers(vm, vcpu);
        double start = now();
        while (ioctl(vcpu, KVM_RUN, 0UL) < 0) {
            if (errno != EINTR)
                none("KVM_RUN");
        }
        double seconds = now() - start;
        if (seconds < best)
            best = seconds;
    }
    return best;
}

int main(void)
{
    signal(SIGALRM, on_alarm);
    alarm(TIME_LIMIT);

    int vm = create_vm();
    add_memory(vm);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0UL);
    if (vcpu < 0)
        none("KVM_CREATE_VCPU");
    struct kvm_run *state =
        mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (state == MAP_FAILED)
        none("mmap of the vCPU");

    double seconds = measure(vm, vcpu);
    if (state->exit_reason != KVM_EXIT_HLT && state->exit_reason != KVM_EXIT_MMIO) {
        errno = EOPNOTSUPP;
        none("the guest ended unexpectedly");
    }
    fprintf(stderr, "probe: 100,000 turns took %.3f ms\n", seconds * 1e3);
    puts(seconds < NATIVE_LIMIT ? "native" : "emulated");
    return 0;
}
