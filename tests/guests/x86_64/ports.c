/* SPDX-License-Identifier: MIT */

/*
 * Reads and writes the ports of every chip in every width, across both ends of its region, and
 * unused ports. The written pattern neither resets the machine nor powers it off.
 */
#include "arch/x86_64/layout.h"
#include "devices/chips/debug_exit.h"
#include "devices/chips/i8254.h"
#include "firmware/tables/acpi_registers.h"
#include "lib/guest.h"
#include "x86_64/x86.h"

#define PATTERN 0x54545454u

#define UART_IER         1
#define UART_FCR         2
#define UART_LCR         3
#define UART_MCR         4
#define UART_SCR         7
#define UART_LCR_8N1     0x03
#define UART_MCR_DTR_RTS 0x03

static const struct region {
    const char *name;
    uint16_t base, size;
} regions[] = {
    { "i8254", I8254_PORT, I8254_SIZE }, { "i8042", I8042_COMMAND_PORT, 1 },
    { "mc146818", RTC_PORT, 2 },         { "port92", PORT92_PORT, 1 },
    { "pm_timer", PM_TIMER_PORT, 4 },    { "uart16550", COM1_PORT, COM1_SIZE },
    { "pvpanic", PVPANIC_PORT, 1 },      { "acpi_power", POWER_PORT, ACPI_POWER_SIZE },
};

static void touch(const struct region *region)
{
    for (unsigned port = region->base - 4u; port < region->base + region->size + 4u; port++)
        for (unsigned size = 1; size <= 4; size *= 2) {
            port_read((uint16_t)port, size);
            port_write((uint16_t)port, size, PATTERN);
            port_read((uint16_t)port, size);
        }
}

/* Initializes the serial port again after the pattern was written. */
static void restore_uart(void)
{
    port_write(COM1_PORT + UART_LCR, 1, UART_LCR_8N1);
    port_write(COM1_PORT + UART_IER, 1, 0);
    port_write(COM1_PORT + UART_FCR, 1, 0);
    port_write(COM1_PORT + UART_MCR, 1, UART_MCR_DTR_RTS);
}

static void check_nothing_there(uint16_t port)
{
    for (unsigned size = 1; size <= 4; size *= 2) {
        port_write(port, size, 0);
        expect_equal(port_read(port, size), 0xffffffffu >> (32 - 8 * size));
    }
}

/* A write of one byte ends the machine; only writes that must not are tried. */
static void check_debug_exit(void)
{
    for (unsigned size = 1; size <= 4; size *= 2)
        for (uint16_t offset = 0; offset < DEBUG_EXIT_SIZE; offset++)
            expect_equal(port_read(DEBUG_EXIT_PORT + offset, size),
                         offset + size > DEBUG_EXIT_SIZE ? 0xffffffffu >> (32 - 8 * size) : 0);
    for (uint16_t offset = 1; offset < DEBUG_EXIT_SIZE; offset++)
        port_write(DEBUG_EXIT_PORT + offset, 4, PATTERN);
    for (uint16_t before = 1; before < 4; before++)
        port_write(DEBUG_EXIT_PORT - before, 4, PATTERN); /* across its start: not a write to it */
}

/* A wide access is split into bytes, lowest first; the scratch register is the last byte. */
static void check_wide_access(void)
{
    port_write(COM1_PORT + UART_SCR - 1, 2, 0xa500);
    expect_equal(port_read(COM1_PORT + UART_SCR, 1), 0xa5);
    port_write(COM1_PORT + UART_SCR - 3, 4, 0x5a000000 | UART_MCR_DTR_RTS);
    expect_equal(port_read(COM1_PORT + UART_SCR, 1), 0x5a);
    expect_equal(port_read(COM1_PORT + UART_SCR - 1, 2) >> 8, 0x5a);
}

/* REP OUTS and REP INS: each element is a separate access. */
static void check_strings(void)
{
    const char *text = "string output\n";
    const char *from = text;
    uint8_t bytes[4] = { 0 };
    void *to = bytes;
    size_t count = 14;

    __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(COM1_PORT) : "memory");
    expect_equal((uintptr_t)from, (uintptr_t)text + 14);
    count = sizeof(bytes);
    __asm__ volatile("rep insb" : "+D"(to), "+c"(count) : "d"(COM1_PORT + 5) : "memory");
    expect_equal(count, 0);
    expect_equal(bytes[0], 0x60); /* line status: the transmitter is empty */
    expect_equal(bytes[3], 0x60);
}

int main(void)
{
    static const uint16_t nowhere[] = { 0x10,  0x80,   0x2f8,  0x506, 0xcf8,
                                        0xcfc, 0x1000, 0xfffc, 0xffff };

    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
        touch(&regions[i]);
        restore_uart();
        print("%s\n", regions[i].name);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++)
        check_nothing_there(nowhere[i]);
    check_debug_exit();
    check_wide_access();
    check_strings();
    expect_equal(port_read(PVPANIC_PORT, 1), 3);
    expect_equal(port_read(I8042_COMMAND_PORT, 1), 0);
    platform_power_off();
}
