/* SPDX-License-Identifier: MIT */
#include "devices/chips/mc146818.h"

#include <stdio.h>
#include <time.h>

#include "tests/unit/saved.h"
#include "tests/unit/still_clock.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

enum { SECONDS = 0, MINUTES = 2, HOURS = 4, WEEKDAY = 6, DAY = 7, MONTH = 8, YEAR = 9 };
enum { A = 0xa, B = 0xb, C = 0xc, D = 0xd, CENTURY = 0x32 };
enum { SET = 0x80, BINARY = 4, HOURS_24 = 2 };

static struct bus bus;
static struct chip *rtc;

/* The host's clock stands at Thursday, 2024-02-29 23:59:58 UTC. */
static void set_up(void)
{
    bus = (struct bus){ 0 };
    still_time = (struct timespec){ 1709251198, 0 };
    rtc = mc146818_create("rtc", 0x70);
    ck_assert_int_eq(bus_map(&bus, &rtc->region), 0);
}

static void tear_down(void)
{
    rtc->device.ops->destroy(&rtc->device);
    still_time = (struct timespec){ 0, 0 }; /* libcheck measures how long a test took */
}

static uint8_t in(unsigned reg)
{
    bus_write(&bus, 0x70, 1, reg);
    return (uint8_t)bus_read(&bus, 0x71, 1);
}

static void out(unsigned reg, uint8_t value)
{
    bus_write(&bus, 0x70, 1, reg);
    bus_write(&bus, 0x71, 1, value);
}

/* The eight registers of the time, as digits: "2024-02-29 23:59:58 5" in BCD. */
static void expect_time(const char *expected)
{
    char text[64];

    snprintf(text, sizeof(text), "%02x%02x-%02x-%02x %02x:%02x:%02x %x", in(CENTURY), in(YEAR),
             in(MONTH), in(DAY), in(HOURS), in(MINUTES), in(SECONDS), in(WEEKDAY));
    ck_assert_str_eq(text, expected);
}

START_TEST(shows_the_hosts_time_in_utc)
{
    expect_time("2024-02-29 23:59:58 5");
    still_time.tv_sec += 2;
    expect_time("2024-03-01 00:00:00 6");
    ck_assert_uint_eq(in(B), HOURS_24);
    ck_assert_uint_eq(in(C), 0);
    ck_assert_uint_eq(in(D), 0x80);
}
END_TEST

START_TEST(binary_and_twelve_hours)
{
    static const struct {
        unsigned hour;
        uint8_t bcd, binary;
    } hours[] = { { 0, 0x12, 12 },    { 1, 0x01, 1 },     { 11, 0x11, 11 },
                  { 12, 0x92, 0x8c }, { 13, 0x81, 0x81 }, { 23, 0x91, 0x8b } };

    for (unsigned i = 0; i < ARRAY_SIZE(hours); i++) {
        still_time.tv_sec = 1709164800 + hours[i].hour * 3600;
        out(B, 0);
        ck_assert_uint_eq(in(HOURS), hours[i].bcd);
        out(B, BINARY);
        ck_assert_uint_eq(in(HOURS), hours[i].binary);
        out(HOURS, hours[i].binary); /* the same time again */
        out(B, BINARY | HOURS_24);
        ck_assert_uint_eq(in(HOURS), hours[i].hour);
        ck_assert_uint_eq(in(DAY), 29);
    }
}
END_TEST

/* As Linux does: stop the clock, write all registers, let it go on. */
static void set_time(const uint8_t digits[7])
{
    static const uint8_t registers[] = { CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS };

    out(B, SET | HOURS_24);
    for (unsigned i = 0; i < 7; i++)
        out(registers[i], digits[i]);
    out(B, HOURS_24);
}

START_TEST(can_be_set)
{
    set_time((uint8_t[]){ 0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59 });
    expect_time("1999-12-31 23:59:59 6");
    still_time.tv_sec++;
    expect_time("2000-01-01 00:00:00 7");

    out(MINUTES, 0x30); /* a running clock, too */
    expect_time("2000-01-01 00:30:00 7");
    rtc->device.ops->reset(&rtc->device);
    expect_time("2024-02-29 23:59:59 5");
}
END_TEST

START_TEST(stands_still_while_it_is_set)
{
    out(B, SET | HOURS_24);
    still_time.tv_sec += 100;
    still_time.tv_nsec = 999999999;
    ck_assert_uint_eq(in(SECONDS), 0x58);
    ck_assert_uint_eq(in(A)&0x80, 0);
    out(SECONDS, 0x01);
    still_time.tv_sec += 100;
    ck_assert_uint_eq(in(SECONDS), 0x01);
    out(B, HOURS_24);
    expect_time("2024-02-29 23:59:01 5");
}
END_TEST

/* A guest that reads the time after this bit was clear has 244 us for it. */
START_TEST(announces_an_update)
{
    still_time.tv_nsec = 999755999;
    ck_assert_uint_eq(in(A), 0x26);
    still_time.tv_nsec++;
    ck_assert_uint_eq(in(A), 0xa6);
    out(A, 0xff);
    still_time.tv_nsec = 0;
    ck_assert_uint_eq(in(A), 0x7f);
}
END_TEST

START_TEST(other_registers_are_memory)
{
    for (unsigned reg = 0; reg < 256; reg++)
        if ((reg & 0x7f) > D && (reg & 0x7f) != CENTURY)
            out(reg, (uint8_t)(reg * 3));
    for (unsigned reg = 0; reg < 128; reg++)
        if (reg > D && reg != CENTURY)
            ck_assert_uint_eq(in(reg), (uint8_t)((reg | 0x80) * 3)); /* bit 7 is not decoded */
    ck_assert_uint_eq(bus_read(&bus, 0x70, 1), 0xff);
    expect_time("2024-02-29 23:59:58 5");
}
END_TEST

/* Whatever is written, the clock goes on and can be read. */
START_TEST(invalid_times)
{
    static const uint8_t registers[] = { CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS };

    for (unsigned mode = 0; mode < 8; mode += 2)
        for (unsigned value = 0; value < 256; value++) {
            out(B, SET | mode);
            for (unsigned i = 0; i < 7; i++)
                out(registers[i], (uint8_t)value);
            out(B, mode);
            for (unsigned i = 0; i < 7; i++)
                in(registers[i]);
            still_time.tv_sec++;
        }
    rtc->device.ops->reset(&rtc->device);
    expect_time("2024-03-01 00:17:02 6");
}
END_TEST

static void restore(void)
{
    struct state saved;

    saved_take(&saved, &rtc->device);
    rtc->device.ops->destroy(&rtc->device);
    bus = (struct bus){ 0 };
    rtc = mc146818_create("rtc", 0x70);
    ck_assert_int_eq(bus_map(&bus, &rtc->region), 0);
    saved_restore(&saved, &rtc->device);
    rtc->device.ops->resume(&rtc->device);
}

START_TEST(a_restored_clock_continues)
{
    set_time((uint8_t[]){ 0x19, 0x70, 0x01, 0x01, 0x00, 0x00, 0x00 });
    out(0x40, 0x77);
    bus_write(&bus, 0x70, 1, 0x40);
    restore();
    ck_assert_uint_eq(bus_read(&bus, 0x71, 1), 0x77); /* the index is restored, too */
    still_time.tv_sec += 61;
    expect_time("1970-01-01 00:01:01 5");

    out(B, SET | HOURS_24);
    out(YEAR, 0x71);
    restore();
    out(B, HOURS_24);
    expect_time("1971-01-01 00:01:01 6");
}
END_TEST

START_TEST(damaged_state)
{
    struct state saved;
    char why[sizeof(saved.why)];

    saved_check_refused(&rtc->device, "index", 0x80, "index: 0x80 is no register");
    saved_take(&saved, &rtc->device);
    memset(saved_field(&saved, "ahead"), 0x7f, 8); /* beyond any calendar */
    ck_assert_int_eq(saved_load(&saved, &rtc->device, why), 0);
    for (unsigned reg = 0; reg < 128; reg++)
        in(reg);
    state_finish(&saved);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mc146818");
    TCase *tests = tcase_create("mc146818");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, shows_the_hosts_time_in_utc);
    tcase_add_test(tests, binary_and_twelve_hours);
    tcase_add_test(tests, can_be_set);
    tcase_add_test(tests, stands_still_while_it_is_set);
    tcase_add_test(tests, announces_an_update);
    tcase_add_test(tests, other_registers_are_memory);
    tcase_add_test(tests, invalid_times);
    tcase_add_test(tests, a_restored_clock_continues);
    tcase_add_test(tests, damaged_state);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
