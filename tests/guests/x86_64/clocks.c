/* SPDX-License-Identifier: MIT */

/*
 * The clocks of a guest without a paravirtual one: finds the PM timer as an operating system does,
 * measures the TSC by it and by the interval timer, and reads the date from the CMOS clock.
 */
#include "arch/x86_64/layout.h"
#include "lib/guest.h"
#include "x86_64/x86.h"

#define PM_TIMER_HZ   3579545u
#define FADT_PM_TIMER 76

#define PIT_HZ     1193182u
#define PIT_PORT_B 0x61
#define PIT_OUTPUT 0x20

#define RTC_A          0xa
#define RTC_B          0xb
#define RTC_A_UPDATING 0x80
#define RTC_B_24_HOURS 0x02 /* and BCD */

static uint64_t field(const uint8_t *table, unsigned at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, table + at, size);
    return value;
}

static uint16_t find_pm_timer(void)
{
    const uint8_t *xsdt = (const uint8_t *)field((const uint8_t *)ACPI_BASE, 24, 8);

    for (unsigned at = 36; at < field(xsdt, 4, 4); at += 8) {
        const uint8_t *table = (const uint8_t *)field(xsdt, at, 8);

        if (!memcmp(table, "FACP", 4))
            return (uint16_t)field(table, FADT_PM_TIMER, 4);
    }
    return 0;
}

/* TSC ticks per ms, measured for 10 ms by the PM timer. */
static uint64_t measure_by_pm_timer(void)
{
    uint16_t port = PM_TIMER_PORT;
    uint32_t start = (uint32_t)port_read(port, 4), ticks;
    uint64_t tsc = tsc_read();

    do
        ticks = (uint32_t)port_read(port, 4) - start;
    while (ticks < PM_TIMER_HZ / 100);
    return (tsc_read() - tsc) * (PM_TIMER_HZ / 1000) / ticks;
}

/* The same by counter 2 of the interval timer, whose output is seen at port B. */
static uint64_t measure_by_pit(void)
{
    const unsigned count = PIT_HZ / 100;
    uint64_t tsc;

    port_write(PIT_PORT_B, 1, 1);
    port_write(I8254_PORT + 3, 1, 0xb0);
    port_write(I8254_PORT + 2, 1, count & 0xff);
    tsc = tsc_read();
    port_write(I8254_PORT + 2, 1, count >> 8);
    while (!(port_read(PIT_PORT_B, 1) & PIT_OUTPUT))
        ;
    return (tsc_read() - tsc) / 10;
}

/* A busy host may come between two clocks, so there are several attempts. */
static void check_timer(const char *name, uint64_t (*measure)(void))
{
    uint64_t khz = cpuid(0x40000010, 0).eax, measured;

    wait_for((measured = measure(), measured > khz - khz / 50 && measured < khz + khz / 50));
    print("%s agrees with CPUID\n", name);
}

static unsigned rtc_read(uint8_t reg)
{
    port_write(RTC_PORT, 1, reg);
    return (unsigned)port_read(RTC_PORT + 1, 1);
}

static void print_date(void)
{
    unsigned fields[7], again = 0;

    expect_equal(rtc_read(RTC_B), RTC_B_24_HOURS);
    do {
        static const uint8_t registers[] = { 0x32, 9, 8, 7, 4, 2, 0 };

        wait_for(!(rtc_read(RTC_A) & RTC_A_UPDATING));
        for (unsigned i = 0; i < ARRAY_SIZE(registers); i++)
            fields[i] = rtc_read(registers[i]);
        again = rtc_read(0);
    } while (again != fields[6]);
    print("date");
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        print(" %x", fields[i]);
    print("\n");
}

int main(void)
{
    expect_equal(find_pm_timer(), PM_TIMER_PORT);
    check_timer("PM timer", measure_by_pm_timer);
    check_timer("interval timer", measure_by_pit);
    print_date();
    return 0;
}
