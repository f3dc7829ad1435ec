/* SPDX-License-Identifier: MIT */
#include "vmm/core/arena.h"

#include <stdint.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

struct item {
    unsigned number;
    struct item *next;
};

START_TEST(allocations_are_zeroed_and_aligned)
{
    struct arena arena = { 0 };

    for (size_t size = 0; size < 100; size++) {
        unsigned char *bytes = arena_alloc(&arena, size);

        ck_assert_ptr_nonnull(bytes);
        ck_assert_uint_eq((uintptr_t)bytes % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++)
            ck_assert_uint_eq(bytes[i], 0);
        memset(bytes, 0xff, size);
    }
    arena_free(&arena);
    ck_assert_ptr_nonnull(arena_alloc(&arena, 1)); /* it may be used again */
    arena_free(&arena);
    arena_free(&arena);
}
END_TEST

START_TEST(lists_keep_the_order_of_appending)
{
    struct item items[3] = { { 0, NULL }, { 1, NULL }, { 2, NULL } }, *list = NULL;
    unsigned count = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(items); i++)
        list_append(&list, &items[i]);
    for (const struct item *item = list; item; item = item->next)
        ck_assert_uint_eq(item->number, count++);
    ck_assert_uint_eq(count, ARRAY_SIZE(items));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *tests = tcase_create("arena");

    tcase_add_test(tests, allocations_are_zeroed_and_aligned);
    tcase_add_test(tests, lists_keep_the_order_of_appending);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
