/* SPDX-License-Identifier: MIT */

/* Ends in the way that the command line names, each of which is fatal. */
#include "arch/x86_64/layout.h"
#include "lib/guest.h"
#include "x86_64/x86.h"

/* Without an interrupt table neither the exception nor the double fault can be delivered. */
static void triple_fault(void)
{
    static const uint16_t no_table[5];

    __asm__ volatile("lidt %0; ud2" ::"m"(no_table));
}

/* KVM can emulate instructions, but cannot fetch them from MMIO. */
static void execute_device(void)
{
    print("%lx\n", platform_hole());
    ((void (*)(void))platform_hole())();
}

/* KVM emulates accesses to MMIO, but almost no FPU instructions. */
static void unknown_instruction(void)
{
    __asm__ volatile("fldt (%0)" ::"r"(platform_hole()));
}

static void pulse_i8042(void)
{
    port_write(I8042_COMMAND_PORT, 1, 0xfe);
}

static void write_port92(void)
{
    port_write(PORT92_PORT, 1, port_read(PORT92_PORT, 1) | 1);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*end)(void);
    } ways[] = {
        { "triple-fault", triple_fault },
        { "execute-device", execute_device },
        { "unknown-instruction", unknown_instruction },
        { "i8042", pulse_i8042 },
        { "port92", write_port92 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        if (word_is(0, ways[i].name))
            ways[i].end();
    platform_stop();
}
