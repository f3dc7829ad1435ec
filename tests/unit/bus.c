/* SPDX-License-Identifier: MIT */
#include "vmm/core/bus.h"

#include <errno.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

static uint64_t last_offset, last_value;
static unsigned last_size, writes;

static uint64_t fake_read(void *owner, uint64_t offset, unsigned size)
{
    last_offset = offset;
    last_size = size;
    return *(const uint64_t *)owner;
}

static void fake_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    last_offset = offset;
    last_size = size;
    last_value = value;
    writes++;
}

static const struct io_ops fake_ops = { .read = fake_read, .write = fake_write };

static uint64_t one = 1, two = 2;

static struct io_region region(uint64_t base, uint64_t size, uint64_t *owner)
{
    return (struct io_region){
        .name = "fake", .base = base, .size = size, .ops = &fake_ops, .owner = owner
    };
}

START_TEST(each_access_reaches_its_region)
{
    struct io_region a = region(0x1000, 0x100, &one), b = region(0x500, 0x10, &two);
    struct bus bus = { 0 };

    ck_assert_int_eq(bus_map(&bus, &a), 0);
    ck_assert_int_eq(bus_map(&bus, &b), 0);
    ck_assert_uint_eq(bus_read(&bus, 0x10fc, 4), 1);
    ck_assert_uint_eq(last_offset, 0xfc);
    ck_assert_uint_eq(last_size, 4);
    ck_assert_uint_eq(bus_read(&bus, 0x500, 1), 2);
    bus_write(&bus, 0x508, 8, 77);
    ck_assert_uint_eq(last_offset, 8);
    ck_assert_uint_eq(last_value, 77);
}
END_TEST

START_TEST(accesses_outside_regions_or_across_an_end_read_all_ones)
{
    struct io_region a = region(0x1000, 0x10, &one), b = region(0x1010, 0x10, &two);
    const uint64_t nowhere[] = { 0, 0xfff, 0x1020, UINT64_MAX, UINT64_MAX - 3 };
    struct bus bus = { 0 };

    bus_map(&bus, &a);
    bus_map(&bus, &b);
    writes = 0;
    for (unsigned size = 1; size <= 8; size *= 2) {
        for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
            ck_assert_uint_eq(bus_read(&bus, nowhere[i], size), UINT64_MAX);
            bus_write(&bus, nowhere[i], size, 1);
        }
        for (uint64_t addr = 0x1010 - size + 1; addr < 0x1010; addr++) {
            ck_assert_uint_eq(bus_read(&bus, addr, size), UINT64_MAX);
            bus_write(&bus, addr, size, 1);
        }
    }
    ck_assert_uint_eq(writes, 0);
}
END_TEST

START_TEST(overlapping_empty_and_wrapping_regions_are_refused)
{
    struct io_region a = region(0x1000, 0x100, &one);
    struct io_region bad[] = {
        region(0x1000, 1, &two), region(0xfff, 2, &two),      region(0x10ff, 1, &two),
        region(0, 0x2000, &two), region(0x1080, 0x100, &two),
    };
    struct io_region empty = region(0x3000, 0, &two);
    struct io_region wrapping = region(UINT64_MAX, 2, &two);
    struct io_region last = region(UINT64_MAX, 1, &two);
    struct bus bus = { 0 };

    ck_assert_int_eq(bus_map(&bus, &a), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(bus_map(&bus, &bad[i]), -EEXIST);
    ck_assert_int_eq(bus_map(&bus, &empty), -EINVAL);
    ck_assert_int_eq(bus_map(&bus, &wrapping), -EINVAL);
    ck_assert_int_eq(bus_map(&bus, &last), 0);
    ck_assert_uint_eq(bus_read(&bus, UINT64_MAX, 1), 2);
    ck_assert_uint_eq(bus.count, 2);
}
END_TEST

START_TEST(a_full_bus_refuses_another_region)
{
    static struct io_region regions[BUS_MAX_REGIONS + 1];
    struct bus bus = { 0 };

    for (unsigned i = 0; i < BUS_MAX_REGIONS; i++) {
        regions[i] = region(0x10000 - 0x10 * i, 0x10, &one);
        ck_assert_int_eq(bus_map(&bus, &regions[i]), 0);
    }
    regions[BUS_MAX_REGIONS] = region(0x20000, 1, &one);
    ck_assert_int_eq(bus_map(&bus, &regions[BUS_MAX_REGIONS]), -ENOSPC);
    for (unsigned i = 0; i < BUS_MAX_REGIONS; i++)
        ck_assert_uint_eq(bus_read(&bus, 0x10000 - 0x10 * i + 15, 1), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bus");
    TCase *tcase = tcase_create("bus");

    tcase_add_test(tcase, each_access_reaches_its_region);
    tcase_add_test(tcase, accesses_outside_regions_or_across_an_end_read_all_ones);
    tcase_add_test(tcase, overlapping_empty_and_wrapping_regions_are_refused);
    tcase_add_test(tcase, a_full_bus_refuses_another_region);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
