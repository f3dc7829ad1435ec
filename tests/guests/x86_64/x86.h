/* SPDX-License-Identifier: MIT */
#ifndef GUESTS_X86_64_X86_H
#define GUESTS_X86_64_X86_H

#include <stdint.h>

/* For payloads that test x86 features. */

static inline uint64_t port_read(uint16_t port, unsigned size)
{
    uint32_t value = 0;

    if (size == 1)
        __asm__ volatile("inb %1, %b0" : "+a"(value) : "Nd"(port));
    else if (size == 2)
        __asm__ volatile("inw %1, %w0" : "+a"(value) : "Nd"(port));
    else
        __asm__ volatile("inl %1, %0" : "+a"(value) : "Nd"(port));
    return value;
}

static inline void port_write(uint16_t port, unsigned size, uint32_t value)
{
    if (size == 1)
        __asm__ volatile("outb %b0, %1" ::"a"(value), "Nd"(port));
    else if (size == 2)
        __asm__ volatile("outw %w0, %1" ::"a"(value), "Nd"(port));
    else
        __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t index)
{
    struct cpuid r;

    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(index));
    return r;
}

static inline uint64_t tsc_read(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

enum {
    LAPIC_ID = 0x20,
    LAPIC_EOI = 0xb0,
    LAPIC_SPURIOUS = 0xf0, /* bit 8: enabled */
    LAPIC_IRR = 0x200,     /* a bit for each vector, 32 in a register, which take 16 bytes */
    LAPIC_ICR_LOW = 0x300,
    LAPIC_ICR_HIGH = 0x310,
};

uint32_t lapic_read(unsigned reg);
void lapic_write(unsigned reg, uint32_t value);

#define LAPIC_ON 0x1ffu /* enabled; spurious vector 0xff */

/* Pin `gsi` of the I/O APIC: edge-triggered, fixed delivery to CPU 0. */
void ioapic_route(unsigned gsi, unsigned vector);

#endif
