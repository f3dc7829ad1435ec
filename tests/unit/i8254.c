/* SPDX-License-Identifier: MIT */
#include "devices/chips/i8254.h"

#include "tests/unit/saved.h"
#include "tests/unit/still_clock.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

enum { COUNTER_2 = 0x42, CONTROL = 0x43, PORT_B = 0x61 };
enum { GATE = 1, OUTPUT = 0x20 };

static struct bus bus;
static struct chip *pit;

static void create(void)
{
    bus = (struct bus){ 0 };
    pit = i8254_create("i8254", 0x40);
    ck_assert_int_eq(bus_map(&bus, &pit->region), 0);
}

static void set_up(void)
{
    still_clock_set_ms(1000);
    create();
}

static void tear_down(void)
{
    pit->device.ops->destroy(&pit->device);
    still_time = (struct timespec){ 0, 0 }; /* libcheck measures how long a test took */
}

static uint8_t in(uint16_t port)
{
    return (uint8_t)bus_read(&bus, port, 1);
}

static void out(uint16_t port, uint8_t value)
{
    bus_write(&bus, port, 1, value);
}

/* Starts a counter of 16 bits. */
static void start(unsigned counter, unsigned mode, unsigned count)
{
    out(CONTROL, (uint8_t)(counter << 6 | 3 << 4 | mode << 1));
    out((uint16_t)(0x40 + counter), (uint8_t)count);
    out((uint16_t)(0x40 + counter), (uint8_t)(count >> 8));
}

static unsigned count_of(unsigned counter)
{
    unsigned low = in((uint16_t)(0x40 + counter));

    return low | (unsigned)in((uint16_t)(0x40 + counter)) << 8;
}

/* As Linux measures the TSC: counter 2 for 10 ms, until port B shows its output. */
START_TEST(output_at_the_end_of_the_count)
{
    out(PORT_B, GATE);
    start(2, 0, I8254_HZ / 100);
    ck_assert_uint_eq(in(PORT_B), GATE);
    still_clock_set_ms(1009);
    ck_assert_uint_eq(in(PORT_B), GATE);
    still_clock_set_ms(1010);
    ck_assert_uint_eq(in(PORT_B), GATE | OUTPUT);
    still_clock_set_ms(1400);
    ck_assert_uint_eq(in(PORT_B), GATE | OUTPUT);
    start(2, 0, I8254_HZ / 100); /* again */
    ck_assert_uint_eq(in(PORT_B), GATE);
}
END_TEST

/* The mode, and the count and output after 0, 1, 2, 3 and 4 ms of a count of 2 ms (2386). */
static const struct {
    unsigned mode;
    unsigned counts[5];
    const char *outputs;
} modes[] = {
    { 0, { 2386, 1193, 0, 64343, 63150 }, "00111" },
    { 2, { 2386, 1193, 0, 1193, 0 }, "11111" },
    { 3, { 2386, 0, 0, 0, 0 }, "10101" },
    { 4, { 2386, 1193, 0, 64343, 63150 }, "11011" },
    { 6, { 2386, 1193, 0, 1193, 0 }, "11111" },
    { 7, { 2386, 0, 0, 0, 0 }, "10101" },
};

START_TEST(every_mode)
{
    unsigned mode = modes[_i].mode;

    start(2, mode, 2386);
    for (unsigned ms = 0; ms < 5; ms++) {
        still_clock_set_ms(1000 + ms);
        ck_assert_uint_eq(in(PORT_B) >> 5, modes[_i].outputs[ms] - '0');
        if (mode == 0 || mode == 4)
            ck_assert_uint_eq(count_of(2), modes[_i].counts[ms]);
        else
            ck_assert_uint_le(count_of(2), 2386);
    }
}
END_TEST

/* 0 is 65536: 55 ms. */
START_TEST(count_of_zero)
{
    start(0, 0, 0);
    ck_assert_uint_eq(count_of(0), 0);
    still_clock_set_ms(1010);
    ck_assert_uint_eq(count_of(0), 65536 - I8254_HZ / 100);
    start(2, 0, 0);
    still_clock_set_ms(1010 + 54);
    ck_assert_uint_eq(in(PORT_B), 0);
    still_clock_set_ms(1010 + 55);
    ck_assert_uint_eq(in(PORT_B), OUTPUT);
}
END_TEST

START_TEST(one_byte_of_the_count)
{
    out(CONTROL, 0x10); /* counter 0, low byte */
    out(0x40, 200);
    ck_assert_uint_eq(in(0x40), 200);
    ck_assert_uint_eq(in(0x40), 200);
    out(CONTROL, 0x20); /* high byte */
    out(0x40, 200);
    ck_assert_uint_eq(in(0x40), 200);
    still_clock_set_ms(1010);
    ck_assert_uint_eq(in(0x40), (200 * 256 - I8254_HZ / 100) >> 8);
}
END_TEST

/* A latched count stays until it is read; a second latch is ignored meanwhile. */
START_TEST(latches)
{
    start(1, 0, 0x8000);
    out(CONTROL, 1 << 6);
    still_clock_set_ms(1001);
    out(CONTROL, 1 << 6);
    ck_assert_uint_eq(in(0x41), 0x00);
    ck_assert_uint_eq(in(0x41), 0x80);
    ck_assert_uint_eq(count_of(1), 0x8000 - I8254_HZ / 1000);

    out(CONTROL, 0xc0 | 1 << 2); /* read-back of counter 1: status, then count */
    ck_assert_uint_eq(in(0x41), 0x30);
    still_clock_set_ms(1100);
    ck_assert_uint_eq(count_of(1), 0x8000 - I8254_HZ / 1000);
    out(CONTROL, 0xe0 | 1 << 2); /* status only */
    ck_assert_uint_eq(in(0x41), 0xb0);
}
END_TEST

START_TEST(a_rising_gate_restarts)
{
    start(2, 1, 0x8000);
    still_clock_set_ms(1001);
    ck_assert_uint_eq(count_of(2), 0x8000 - I8254_HZ / 1000);
    out(PORT_B, GATE);
    ck_assert_uint_eq(count_of(2), 0x8000);
    still_clock_set_ms(1002);
    out(PORT_B, GATE);
    ck_assert_uint_lt(count_of(2), 0x8000);
}
END_TEST

START_TEST(unused_ports)
{
    for (uint16_t port = 0x44; port < 0x61; port++) {
        out(port, 0x54);
        ck_assert_uint_eq(in(port), 0xff);
    }
    ck_assert_uint_eq(in(CONTROL), 0xff);
    out(PORT_B, 0xff);
    ck_assert_uint_eq(in(PORT_B) & ~OUTPUT, 3);
    pit->device.ops->reset(&pit->device);
    ck_assert_uint_eq(in(PORT_B) & ~OUTPUT, 0);
}
END_TEST

START_TEST(a_restored_timer_continues)
{
    struct state saved;

    start(2, 0, I8254_HZ / 100);
    out(CONTROL, 0xc0 | 2 << 2);
    still_clock_set_ms(1003);
    saved_take(&saved, &pit->device);
    still_clock_set_ms(9000);
    pit->device.ops->destroy(&pit->device);
    create();
    saved_restore(&saved, &pit->device);
    still_clock_set_ms(9500);
    pit->device.ops->resume(&pit->device);
    ck_assert_uint_eq(in(COUNTER_2), 0x30); /* the latched status */
    ck_assert_uint_eq(count_of(2), I8254_HZ / 100);
    still_clock_set_ms(9506);
    ck_assert_uint_eq(in(PORT_B), 0);
    still_clock_set_ms(9507);
    ck_assert_uint_eq(in(PORT_B), OUTPUT);
}
END_TEST

START_TEST(damaged_state)
{
    static const struct {
        const char *field;
        uint8_t value;
    } bad[] = { { "reload", 1 }, { "access", 0 }, { "mode", 6 }, { "latched_left", 3 } };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        saved_check_refused(&pit->device, bad[i].field, bad[i].value, "undefined mode or count");
    saved_check_refused(&pit->device, "port_b", 0x20, "port_b: 0x20 has undefined bits");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("i8254");
    TCase *tests = tcase_create("i8254");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, output_at_the_end_of_the_count);
    tcase_add_loop_test(tests, every_mode, 0, ARRAY_SIZE(modes));
    tcase_add_test(tests, count_of_zero);
    tcase_add_test(tests, one_byte_of_the_count);
    tcase_add_test(tests, latches);
    tcase_add_test(tests, a_rising_gate_restarts);
    tcase_add_test(tests, unused_ports);
    tcase_add_test(tests, a_restored_timer_continues);
    tcase_add_test(tests, damaged_state);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
