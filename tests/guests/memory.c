/* SPDX-License-Identifier: MIT */

/* The firmware's tables list as many MiB of RAM as the command line says; all of it works. */
#include "lib/guest.h"

#define PAGE 4096u
#define STEP (64ull << 20)

/* Calls `each` for a word every STEP bytes, and for the last word of each range. */
static void visit(void (*each)(volatile uint64_t *where))
{
    uint64_t free = platform_free_ram();
    struct range ram;

    for (unsigned i = 0; platform_ram(i, &ram); i++) {
        uint64_t end = ram.base + ram.size;

        for (uint64_t at = ram.base < free ? free : ram.base; at < end; at += STEP)
            each((volatile uint64_t *)at);
        if (end > free)
            each((volatile uint64_t *)(end - sizeof(uint64_t)));
    }
}

static void expect_zero(volatile uint64_t *where)
{
    expect_equal(*where, 0);
}

static void fill(volatile uint64_t *where)
{
    *where = (uintptr_t)where ^ 0x5555555555555555;
}

static void expect_filled(volatile uint64_t *where)
{
    expect_equal(*where, (uintptr_t)where ^ 0x5555555555555555);
}

int main(void)
{
    struct range ram;
    uint64_t total = 0, end = 0;

    for (unsigned i = 0; platform_ram(i, &ram); i++) {
        expect(ram.base >= end && ram.base % PAGE == 0 && ram.size % PAGE == 0);
        end = ram.base + ram.size;
        total += ram.size;
    }
    print("end %lx\n", end);
    /* On a PC the hole below 1 MiB is missing. */
    expect_equal((total + (1 << 20) - 1) >> 20, word_number(0));
    visit(expect_zero);
    visit(fill);
    visit(expect_filled);
    return 0;
}
