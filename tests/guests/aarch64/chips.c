/* SPDX-License-Identifier: MIT */

/*
 * Reads and writes the registers of every chip in every width, across both ends of its region. The
 * written pattern does not end the machine.
 */
#include "arch/aarch64/layout.h"
#include "devices/chips/debug_exit.h"
#include "devices/chips/pl011.h"
#include "devices/chips/pl031.h"
#include "devices/chips/pvpanic.h"
#include "lib/guest.h"

#define PATTERN 0x5454545454545454ull
#define EDGE    0x60 /* bytes at either end of a region, where a chip has its registers */

#define UART_DATA    0
#define UART_CONTROL 0x30
#define UART_OFF     0x300

static void touch(uintptr_t at, bool write)
{
    for (unsigned size = 1; size <= 8; size *= 2) {
        platform_read(at, size);
        if (write)
            platform_write(at, size, PATTERN);
        platform_read(at, size);
    }
}

/* Does not write the serial port's data register, which would print. */
static void touch_page(uintptr_t base)
{
    for (uintptr_t at = base - 8; at < base + EDGE; at++)
        touch(at, at < base - 7 || at >= base + 4);
    for (uintptr_t at = base + PRIMECELL_SIZE - EDGE; at < base + PRIMECELL_SIZE + 8; at++)
        touch(at, true);
}

static void check_id(uintptr_t base, unsigned part)
{
    static const uint8_t primecell[] = { 0x0d, 0xf0, 0x05, 0xb1 };

    expect_equal(platform_read(base + 0xfe0, 4), part & 0xff);
    for (unsigned i = 0; i < ARRAY_SIZE(primecell); i++)
        expect_equal(platform_read(base + 0xff0 + 4 * i, 4), primecell[i]);
}

/* A write to the first byte ends the machine; only writes that must not are tried. */
static void check_debug_exit(void)
{
    for (unsigned offset = 0; offset < DEBUG_EXIT_SIZE; offset++)
        touch(DEBUG_EXIT_BASE + offset, offset > 0);
    for (unsigned before = 1; before < 8; before++)
        platform_write(DEBUG_EXIT_BASE - before, 8,
                       PATTERN); /* across its start: not a write to it */
}

int main(void)
{
    touch_page(PL011_BASE);
    platform_write(PL011_BASE + UART_CONTROL, 4, UART_OFF);
    check_id(PL011_BASE, 0x11);
    print("pl011\n");
    touch_page(PL031_BASE);
    check_id(PL031_BASE, 0x31);
    print("pl031\n");
    touch(PVPANIC_BASE, true);
    expect_equal(platform_read(PVPANIC_BASE, 1), PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
    print("pvpanic\n");
    check_debug_exit();
    print("debug_exit\n");
    return 0;
}
