/* SPDX-License-Identifier: MIT */
#include "vmm/core/memory.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

/* Two regions with a gap, as on a PC with more than 3 GiB. */
static struct guest_memory *two_regions(void)
{
    struct guest_memory *mem = guest_memory_create();

    ck_assert_int_eq(guest_memory_add(mem, 0, MIB), 0);
    ck_assert_int_eq(guest_memory_add(mem, 4 * GIB, 2 * MIB), 0);
    return mem;
}

START_TEST(inside_ram)
{
    struct guest_memory *mem = two_regions();
    const struct {
        gpa_t gpa;
        size_t len;
    } good[] = { { 0, 1 }, { 0, MIB }, { MIB - 1, 1 }, { MIB, 0 }, { 4 * GIB, 2 * MIB } };

    for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
        ck_assert_ptr_nonnull(guest_ptr(mem, good[i].gpa, good[i].len));
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(outside_ram_in_the_gap_across_an_end_and_wrapping)
{
    struct guest_memory *mem = two_regions();
    const struct {
        gpa_t gpa;
        size_t len;
    } bad[] = {
        { MIB, 1 },         { MIB - 1, 2 },           { 3 * GIB, 4096 },
        { 4 * GIB - 1, 2 }, { 4 * GIB, 2 * MIB + 1 }, { 5 * GIB, 1 },
        { UINT64_MAX, 1 },  { UINT64_MAX, 2 },        { 0, SIZE_MAX },
        { 1, SIZE_MAX },    { 4 * GIB, SIZE_MAX },    { UINT64_MAX - 4095, 8192 },
    };
    char byte = 1;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_ptr_null(guest_ptr(mem, bad[i].gpa, bad[i].len));
        ck_assert_int_eq(guest_read(mem, bad[i].gpa, &byte, bad[i].len), -EFAULT);
        ck_assert_int_eq(guest_write(mem, bad[i].gpa, &byte, bad[i].len), -EFAULT);
    }
    ck_assert_int_eq(byte, 1);
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(what_is_written_is_read)
{
    struct guest_memory *mem = two_regions();
    char back[6] = "";

    ck_assert_int_eq(guest_write(mem, 4 * GIB + 100, "hello", 6), 0);
    ck_assert_int_eq(guest_read(mem, 4 * GIB + 100, back, 6), 0);
    ck_assert_str_eq(back, "hello");
    ck_assert_str_eq(guest_ptr(mem, 4 * GIB + 100, 6), "hello");
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(clear_zeroes_every_byte)
{
    struct guest_memory *mem = two_regions();
    const char *host = guest_ptr(mem, 0, MIB);
    size_t left = 0;

    memset(guest_ptr(mem, 0, MIB), 0xaa, MIB);
    guest_memory_clear(mem);
    for (size_t i = 0; i < MIB; i++)
        left += host[i] != 0;
    ck_assert_uint_eq(left, 0);
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(refuses_what_cannot_be_had)
{
    struct guest_memory *mem = guest_memory_create();

    ck_assert_int_eq(guest_memory_add(mem, 0, UINT64_MAX - 4095), -ENOMEM);
    ck_assert_int_eq(guest_memory_add(mem, 0, 1ull << 60), -ENOMEM);
    for (unsigned i = 0; i < GUEST_MEMORY_REGIONS; i++)
        ck_assert_int_eq(guest_memory_add(mem, i * GIB, 4096), 0);
    ck_assert_int_eq(guest_memory_add(mem, 64 * GIB, 4096), -ENOSPC);
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(aligned_for_huge_pages)
{
    struct guest_memory *mem = two_regions();

    for (unsigned i = 0; i < 2; i++)
        ck_assert_uint_eq((uintptr_t)guest_memory_region(mem, i)->host % (2 * MIB), 0);
    ck_assert_ptr_null(guest_memory_region(mem, 2));
    guest_memory_destroy(mem);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tcase = tcase_create("memory");

    tcase_add_test(tcase, inside_ram);
    tcase_add_test(tcase, outside_ram_in_the_gap_across_an_end_and_wrapping);
    tcase_add_test(tcase, what_is_written_is_read);
    tcase_add_test(tcase, clear_zeroes_every_byte);
    tcase_add_test(tcase, refuses_what_cannot_be_had);
    tcase_add_test(tcase, aligned_for_huge_pages);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
