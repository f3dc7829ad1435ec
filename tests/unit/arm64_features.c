/* SPDX-License-Identifier: MIT */

/* Names of what another host's CPU lacks. */
#include "arch/aarch64/features.h"

#include "tests/unit/unit.h"

#define PFR0  0xc020
#define ISAR0 0xc030
#define ISAR1 0xc031

static const struct {
    uint16_t id;
    uint64_t was, is;
    const char *names;
} cases[] = {
    { ISAR0, 0x1021100110212120, 0x1021100110212120, "" },
    { ISAR0, 0x1021100110212120, 0x0021100110212120, "rng" },
    { ISAR0, 0x0021100110212120, 0x1021100110212120, "" }, /* more is no harm */
    { ISAR0, 0x1021100110212120, 0x1021100010111110, "aes, sha2, atomics, sha3" },
    { ISAR1, 0x20, 0x10, "paca" },
    { PFR0, 0x0000000000110000, 0x0000000000ff0000, "fp, asimd" },
    { PFR0, 0x0000000000110000, 0x0000000000000000, "fp, asimd" },
    { PFR0, 0x0000000000ff0000, 0x0000000000000000, "" },
    { PFR0, 0x1000000100000000, 0, "sve" }, /* the other has no name */
    { 0xc038, 0xf, 0, "" },                 /* nor has this register */
};

START_TEST(what_the_host_lacks_is_named)
{
    char text[64];

    features_missing(cases[_i].id, cases[_i].was, cases[_i].is, text, sizeof(text));
    ck_assert_str_eq(text, cases[_i].names);
}
END_TEST

START_TEST(more_than_there_is_room_for)
{
    char text[16];

    features_missing(ISAR0, UINT64_MAX, 0, text, sizeof(text));
    ck_assert_str_eq(text, "aes, sha1, sha2");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arm64_features");
    TCase *tests = tcase_create("arm64_features");

    tcase_add_loop_test(tests, what_the_host_lacks_is_named, 0, 10);
    tcase_add_test(tests, more_than_there_is_room_for);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
