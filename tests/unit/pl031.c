/* SPDX-License-Identifier: MIT */
#include "devices/chips/pl031.h"

#include <time.h>

#include "tests/unit/saved.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

enum { DATA = 0, MATCH = 4, LOAD = 8, CONTROL = 12, MASK = 16, ID = 0xfe0 };

static struct bus bus;
static struct chip *rtc;

static void set_up(void)
{
    bus = (struct bus){ 0 };
    rtc = pl031_create("pl031", 0x1000);
    ck_assert_int_eq(bus_map(&bus, &rtc->region), 0);
}

static void tear_down(void)
{
    rtc->device.ops->destroy(&rtc->device);
}

static uint64_t in(unsigned reg, unsigned size)
{
    return bus_read(&bus, 0x1000 + reg, size);
}

static void out(unsigned reg, unsigned size, uint64_t value)
{
    bus_write(&bus, 0x1000 + reg, size, value);
}

static void expect_ahead(uint32_t seconds)
{
    ck_assert_uint_le((uint32_t)(in(DATA, 4) - (uint32_t)time(NULL) - seconds + 1), 2);
}

START_TEST(starts_with_the_hosts_time)
{
    expect_ahead(0);
    ck_assert_uint_eq(in(CONTROL, 4), 1);
}
END_TEST

/* Past and future, and the ends of the range. */
START_TEST(can_be_set)
{
    static const uint32_t ahead[] = { 1000, (uint32_t)-1000, 0x80000000, 0x7fffffff };

    for (unsigned i = 0; i < ARRAY_SIZE(ahead); i++) {
        out(LOAD, 4, (uint32_t)time(NULL) + ahead[i]);
        expect_ahead(ahead[i]);
    }
    rtc->device.ops->reset(&rtc->device);
    expect_ahead(0);
}
END_TEST

START_TEST(identifies_itself)
{
    static const uint8_t id[] = { 0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };

    for (unsigned i = 0; i < 8; i++)
        ck_assert_uint_eq(in(ID + 4 * i, 4), id[i]);
}
END_TEST

/* A narrow access reaches the low bits; one at other offsets than multiples of 4, nothing. */
START_TEST(every_width_at_every_offset)
{
    out(MATCH, 4, 0x12345678);
    for (unsigned size = 1; size <= 8; size *= 2)
        for (unsigned offset = MATCH; offset < MATCH + 4; offset++)
            ck_assert_uint_eq(in(offset, size), offset > MATCH ? 0
                                                : size == 1    ? 0x78
                                                : size == 2    ? 0x5678
                                                               : 0x12345678);
    for (unsigned offset = MATCH + 1; offset < MATCH + 4; offset++)
        out(offset, 1, 0xff);
    ck_assert_uint_eq(in(MATCH, 4), 0x12345678);
    for (unsigned offset = MASK; offset < ID; offset += 4) {
        out(offset, 8, ~0ull);
        ck_assert_uint_eq(in(offset, 4), 0);
    }
    expect_ahead(0);
}
END_TEST

START_TEST(a_restored_clock_continues)
{
    struct state saved;

    out(LOAD, 4, (uint32_t)time(NULL) + 1000);
    out(MATCH, 4, 0x12345678);
    saved_take(&saved, &rtc->device);
    tear_down();
    set_up();
    saved_restore(&saved, &rtc->device);
    rtc->device.ops->resume(&rtc->device);
    expect_ahead(1000);
    ck_assert_uint_eq(in(MATCH, 4), 0x12345678);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pl031");
    TCase *tests = tcase_create("pl031");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, starts_with_the_hosts_time);
    tcase_add_test(tests, can_be_set);
    tcase_add_test(tests, identifies_itself);
    tcase_add_test(tests, every_width_at_every_offset);
    tcase_add_test(tests, a_restored_clock_continues);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
