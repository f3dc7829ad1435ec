/* SPDX-License-Identifier: MIT */
#include "x86_64/ring3.h"

#include "lib/guest.h"

#define CODE0 0x10 /* selector of start.S */
#define DATA3 0x2b
#define CODE3 0x33
#define TSS   0x38

#define VECTOR_UD      6
#define VECTOR_GP      13
#define INTERRUPT_GATE 0x8e00u
#define FLAGS          0x2ull /* interrupts off */

struct gate {
    uint16_t offset_low, selector, flags, offset_middle;
    uint32_t offset_high, reserved;
};

struct table {
    uint16_t pad[3], limit;
    uint64_t base;
};

/* SDM 3A, 8.7: only the stack for ring 0 is used. */
static struct {
    uint32_t reserved, rsp0, rest[24];
} tss;
static char stack[512] __attribute__((aligned(16)));
static struct gate gates[RING3_VECTOR + 1] __attribute__((aligned(16)));
static uint64_t segments[] = {
    0,
    0x00cf9b000000ffff, /* same as in start.S */
    0x00af9b000000ffff,
    0x00cf93000000ffff,
    0,
    0x00cff3000000ffff, /* ring 3: data, 64-bit code */
    0x00affb000000ffff,
    0, /* the TSS takes two entries */
    0,
};

/*
 * The handlers in ring 0: few instructions, as each may be interpreted. HLT in ring 3 raises #GP,
 * whose handler executes it; UD2 returns to ring 0. (SYSCALL and INT are not used: some KVMs that
 * interpret ring 0 get them wrong.) Interrupts are enabled during a halt only.
 */
void ring3_on_gp(void);
void ring3_on_ud(void);
void ring3_on_interrupt(void);
__asm__("ring3_on_gp: add $8, %rsp; incq (%rsp); sti; hlt; cli\n"
        "ring3_on_interrupt: iretq\n"
        "ring3_on_ud: pop %rax; mov 16(%rsp), %rsp; add $2, %rax; jmp *%rax");

static void set_gate(unsigned vector, void (*handler)(void))
{
    uintptr_t at = (uintptr_t)handler;

    gates[vector] =
        (struct gate){ (uint16_t)at, CODE0, INTERRUPT_GATE, (uint16_t)(at >> 16), 0, 0 };
}

static void load_tables(void)
{
    uint64_t at = (uintptr_t)&tss;
    struct table gdt = { .limit = sizeof(segments) - 1, .base = (uintptr_t)segments };
    struct table idt = { .limit = sizeof(gates) - 1, .base = (uintptr_t)gates };

    tss.rsp0 = (uint32_t)(uintptr_t)(stack + sizeof(stack));
    segments[TSS / 8] = (sizeof(tss) - 1) | (at & 0xffffff) << 16 | 0x89ull << 40 | at >> 24 << 56;
    set_gate(VECTOR_UD, ring3_on_ud);
    set_gate(VECTOR_GP, ring3_on_gp);
    set_gate(RING3_VECTOR, ring3_on_interrupt);
    __asm__ volatile("lgdt %0; lidt %1; ltr %w2" ::"m"(gdt.limit), "m"(idt.limit), "r"(TSS));
}

void ring3_run(void (*fn)(void))
{
    load_tables();
    __asm__ volatile("mov %%rsp, %%rcx\n\t"
                     "push %0\n\t"
                     "push %%rcx\n\t"
                     "push %1\n\t"
                     "push %2\n\t"
                     "push $1f\n\t"
                     "iretq\n"
                     "1:" ::"i"(DATA3),
                     "i"(FLAGS), "i"(CODE3)
                     : "rcx", "memory");
    fn();
    __asm__ volatile("ud2" ::: "rax", "memory");
}

void ring3_halt(void)
{
    __asm__ volatile("hlt" ::: "memory");
}
