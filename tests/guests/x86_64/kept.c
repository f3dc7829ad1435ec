/* SPDX-License-Identifier: MIT */

/*
 * What a CPU has must survive that the machine moves. The first CPU has vector and floating point
 * registers, in ring 3, as some KVMs that interpret ring 0 know no such instructions. The second
 * has debug and model specific registers, the TSC, and a timer that is about to expire. Both set
 * other values in every round, and compare after a while. The second prints a line every now and
 * then, until it gets a byte on the serial port.
 */
#include "arch/x86_64/layout.h"
#include "lib/guest.h"
#include "x86_64/ring3.h"
#include "x86_64/x86.h"

#define VECTOR_TIMER 0x40
#define CODE64       0x10

#define LVT_TIMER    0x320
#define LVT_PERIODIC (1u << 17)
#define LVT_DEADLINE (2u << 17)
#define TIMER_COUNT  0x380
#define TIMER_DIVIDE 0x3e0

#define CPUID1_DEADLINE (1u << 24)
#define CPUID1_XSAVE    (1u << 26)
#define CPUID1_AVX      (1u << 28)
#define CPUID7_SSE_AVX  7u /* XCR0 */

#define CR4_SSE     0x600ull
#define CR4_OSXSAVE 0x40000ull

#define MSR_DEADLINE 0x6e0u

#define EXPIRIES    3    /* in a round */
#define PRINT_EVERY 50   /* rounds */
#define SPINS       2000 /* before the vectors are compared */

/* Each holds any canonical address. */
static const uint32_t msrs[] = { 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101,
                                 0xc0000102, 0x175,      0x176 };

struct gate {
    uint16_t offset_low, selector, flags, offset_middle;
    uint32_t offset_high, reserved;
};

struct interrupt_frame;

struct vectors {
    uint8_t bytes[16][32];
};

struct fxsave {
    uint32_t control[2];
    uint64_t pointers[2];
    uint32_t mxcsr, mask;
    uint8_t x87[128], rest[352];
} __attribute__((aligned(16)));

static struct gate gates[VECTOR_TIMER + 1] __attribute__((aligned(16)));
static bool has_avx, has_deadline;
static uint64_t interval; /* of the timer, in TSC ticks */
static volatile uint32_t expired;
static volatile bool over;
static const char *volatile fault; /* of the first CPU */

static void msr_write(uint32_t index, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static uint64_t msr_read(uint32_t index)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return (uint64_t)high << 32 | low;
}

static void arm_timer(void)
{
    if (has_deadline)
        msr_write(MSR_DEADLINE, tsc_read() + interval);
}

__attribute__((interrupt)) static void on_timer(struct interrupt_frame *frame)
{
    expired++;
    arm_timer();
    lapic_write(LAPIC_EOI, 0);
}

static void start_timer(void)
{
    struct {
        uint16_t pad[3], limit;
        uint64_t base;
    } table = { .limit = sizeof(gates) - 1, .base = (uintptr_t)gates };

    __asm__ volatile("lidt %0" ::"m"(table.limit), "m"(table.base));
    lapic_write(LAPIC_SPURIOUS, LAPIC_ON);
    lapic_write(TIMER_DIVIDE, 0xb); /* by 1 */
    lapic_write(LVT_TIMER, VECTOR_TIMER | (has_deadline ? LVT_DEADLINE : LVT_PERIODIC));
    if (!has_deadline)
        lapic_write(TIMER_COUNT, 200000);
    arm_timer();
    __asm__ volatile("sti" ::: "memory");
}

static void enable_vectors(void)
{
    uint64_t cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4 | CR4_SSE | (has_avx ? CR4_OSXSAVE : 0)));
    if (has_avx)
        __asm__ volatile("xsetbv" ::"c"(0), "a"(CPUID7_SSE_AVX), "d"(0));
}

/* -mgeneral-regs-only: the compiler uses none of these registers. */
static void load_vectors(const struct vectors *v)
{
    if (has_avx)
        __asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                         "vmovdqu 32*\\n(%0), %%ymm\\n\n"
                         ".endr" ::"r"(v)
                         : "memory");
    else
        __asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                         "movdqu 32*\\n(%0), %%xmm\\n\n"
                         ".endr" ::"r"(v)
                         : "memory");
}

static void store_vectors(struct vectors *v)
{
    if (has_avx)
        __asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                         "vmovdqu %%ymm\\n, 32*\\n(%0)\n"
                         ".endr" ::"r"(v)
                         : "memory");
    else
        __asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                         "movdqu %%xmm\\n, 32*\\n(%0)\n"
                         ".endr" ::"r"(v)
                         : "memory");
}

static void load_x87(uint32_t value)
{
    uint32_t mxcsr = 0x1f80 | (value & 3) << 13; /* the rounding mode */
    uint64_t number = value * 2654435761u;

    __asm__ volatile("fninit; fildq %0; fldpi; fildq %0; fldl2e" ::"m"(number));
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
}

static const char *vectors_round(uint32_t round)
{
    static struct vectors wanted, found;
    static struct fxsave first, later;

    for (unsigned i = 0; i < sizeof(wanted); i++)
        ((uint8_t *)&wanted)[i] = (uint8_t)(round * 31 + i * 7 + (i >> 8));
    load_vectors(&wanted);
    load_x87(round);
    __asm__ volatile("fxsave64 %0" : "=m"(first));
    for (unsigned i = 0; i < SPINS; i++)
        platform_relax();
    __asm__ volatile("fxsave64 %0" : "=m"(later));
    store_vectors(&found);
    if (later.control[0] != first.control[0] || later.mxcsr != first.mxcsr)
        return "control registers";
    if (memcmp(later.x87, first.x87, sizeof(first.x87)) != 0)
        return "x87 registers";
    for (unsigned i = 0; i < ARRAY_SIZE(wanted.bytes); i++)
        if (memcmp(found.bytes[i], wanted.bytes[i], has_avx ? 32 : 16) != 0)
            return "vector registers";
    return NULL;
}

/* In ring 3, which can say nothing. */
static void use_vectors(void)
{
    for (uint32_t round = 0; !over && !fault; round++)
        fault = vectors_round(round);
}

static void set_others(uint64_t value)
{
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr3" ::"r"(value * 8), "r"(value * 16));
    __asm__ volatile("mov %0, %%cr8" ::"r"(value % 3));
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        msr_write(msrs[i], value * 4096 + i);
}

static void check_others(uint64_t value)
{
    uint64_t dr0, dr3, cr8;

    __asm__ volatile("mov %%dr0, %0; mov %%dr3, %1; mov %%cr8, %2"
                     : "=r"(dr0), "=r"(dr3), "=r"(cr8));
    expect_equal(dr0, value * 8);
    expect_equal(dr3, value * 16);
    expect_equal(cr8, value % 3);
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        expect_equal(msr_read(msrs[i]), value * 4096 + i);
}

/* It neither goes back nor leaps over the time that the machine did not run. */
static void check_tsc(void)
{
    static uint64_t last;
    uint64_t now = tsc_read();

    expect(now >= last);
    expect(!last || now - last < interval * 10000 * 20);
    last = now;
}

/* Halts in between: a timer that is lost is waited for for ever. */
static void wait_for_timer(void)
{
    uint32_t from = expired;

    for (;;) {
        __asm__ volatile("cli" ::: "memory");
        if (expired - from >= EXPIRIES)
            break;
        __asm__ volatile("sti; hlt" ::: "memory");
    }
    __asm__ volatile("sti" ::: "memory");
}

static void second(void)
{
    uint32_t round;
    char byte;

    start_timer();
    for (round = 1; !platform_get(&byte); round++) {
        set_others(round);
        wait_for_timer();
        check_others(round);
        check_tsc();
        if (fault) {
            print("lost: %s\n", fault);
            platform_exit(1);
        }
        if (round % PRINT_EVERY == 0)
            print("%u\n", round);
    }
    print("rounds %u\n", round);
    over = true;
    platform_exit(0);
}

int main(void)
{
    uintptr_t handler = (uintptr_t)on_timer;
    uint32_t features = cpuid(1, 0).ecx;

    gates[VECTOR_TIMER] =
        (struct gate){ (uint16_t)handler,         CODE64, 0x8e00, (uint16_t)(handler >> 16),
                       (uint32_t)(handler >> 32), 0 };
    has_deadline = features & CPUID1_DEADLINE;
    has_avx = features & CPUID1_XSAVE && features & CPUID1_AVX;
    interval = cpuid(0x40000010, 0).eax / 5; /* 200 us */
    print("%s, %s\n", has_avx ? "AVX" : "SSE", has_deadline ? "deadline" : "periodic");
    enable_vectors();
    expect(platform_start_cpu(1, second));
    ring3_run(use_vectors);
    platform_stop();
}
