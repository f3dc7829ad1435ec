/* SPDX-License-Identifier: MIT */
#include "devices/chips/pm_timer.h"

#include "tests/unit/saved.h"
#include "tests/unit/still_clock.h"
#include "tests/unit/unit.h"

static struct bus bus;
static struct chip *timer;

static void set_up(void)
{
    bus = (struct bus){ 0 };
    still_clock_set_ms(1000);
    timer = pm_timer_create("pm_timer", 0x608);
    ck_assert_int_eq(bus_map(&bus, &timer->region), 0);
}

static void tear_down(void)
{
    timer->device.ops->destroy(&timer->device);
    still_time = (struct timespec){ 0, 0 }; /* libcheck measures how long a test took */
}

static uint32_t count(void)
{
    return (uint32_t)bus_read(&bus, 0x608, 4);
}

START_TEST(counts_at_its_frequency_and_wraps)
{
    uint32_t start = count();

    still_clock_set_ms(2000);
    ck_assert_uint_eq(count() - start, PM_TIMER_HZ);
    still_clock_set_ms(1000 + 1000000);
    ck_assert_uint_eq(count() - start, (uint32_t)(1000ull * PM_TIMER_HZ));
    still_clock_set_ms(1000 + 1500000); /* it has wrapped */
    ck_assert_uint_eq(count() - start, (uint32_t)(1500ull * PM_TIMER_HZ));
}
END_TEST

START_TEST(cannot_be_written)
{
    uint32_t start = count();

    for (unsigned size = 1; size <= 4; size *= 2)
        for (unsigned offset = 0; offset + size <= 4; offset++)
            bus_write(&bus, 0x608 + offset, size, UINT64_MAX);
    timer->device.ops->reset(&timer->device);
    ck_assert_uint_eq(count(), start);
    ck_assert_uint_eq(bus_read(&bus, 0x608, 2), start & 0xffff);
    ck_assert_uint_eq(bus_read(&bus, 0x60a, 2), 0);
}
END_TEST

/* It stands still from the save to the resume of the loaded machine, as the TSC does. */
START_TEST(a_restored_timer_continues)
{
    struct state saved;
    uint32_t start = count();

    saved_take(&saved, &timer->device);
    timer->device.ops->resume(&timer->device);
    still_clock_set_ms(1500);
    ck_assert_uint_eq(count() - start, PM_TIMER_HZ / 2); /* the saved machine may go on */

    still_clock_set_ms(5000);
    tear_down();
    bus = (struct bus){ 0 };
    timer = pm_timer_create("pm_timer", 0x608);
    ck_assert_int_eq(bus_map(&bus, &timer->region), 0);
    saved_restore(&saved, &timer->device);
    still_clock_set_ms(6000);
    timer->device.ops->resume(&timer->device);
    ck_assert_uint_eq(count(), start);
    still_clock_set_ms(7000);
    ck_assert_uint_eq(count() - start, PM_TIMER_HZ);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pm_timer");
    TCase *tests = tcase_create("pm_timer");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, counts_at_its_frequency_and_wraps);
    tcase_add_test(tests, cannot_be_written);
    tcase_add_test(tests, a_restored_timer_continues);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
