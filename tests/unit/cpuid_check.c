/* SPDX-License-Identifier: MIT */

/* CPUs of other hosts, on which a saved guest may go on or not. */
#include "arch/x86_64/cpuid_check.h"

#include <linux/kvm.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/core/state.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

struct table {
    uint32_t nent, padding;
    struct kvm_cpuid_entry2 entries[8];
};

static struct table table(void)
{
    return (struct table){
        .nent = 8,
        .entries = {
            { .function = 0, .eax = 0xd, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
            { .function = 1, .ecx = 1u << 26 | 1u << 28, .edx = 1u << 25 },
            { .function = 7, .flags = INDEXED, .ebx = 1u << 5 | 1u << 16, .ecx = 1u << 11 },
            { .function = 0xd, .flags = INDEXED, .eax = 0xe7, .ebx = 832 },
            { .function = 0xd, .index = 2, .flags = INDEXED, .eax = 256, .ebx = 576 },
            { .function = 0x80000001, .edx = 1u << 26 },
            { .function = 0x80000008, .eax = 0x302e },
            { .function = 0x40000001, .eax = 1 },
        },
    };
}

static int check(struct table *shown, struct table *here, struct state *s)
{
    state_begin_load(s, NULL, 0);
    cpuid_check((struct kvm_cpuid2 *)(void *)shown, (struct kvm_cpuid2 *)(void *)here, s);
    return state_finish(s);
}

START_TEST(the_same_host_or_one_with_more)
{
    struct table shown = table(), here = table();
    struct state s;

    ck_assert_int_eq(check(&shown, &here, &s), 0);
    here.entries[1].ecx |= 1u << 30;
    here.entries[2].edx |= ~0u;
    here.entries[6].eax += 6;
    shown.entries[1].ecx |= 1u << 27; /* the guest has set CR4.OSXSAVE */
    ck_assert_int_eq(check(&shown, &here, &s), 0);
}
END_TEST

/* 0: the leaf has no such bit, 1: there is no such leaf. */
START_TEST(what_the_host_lacks_is_named)
{
    struct table shown = table(), here = table();
    struct state s;

    here.entries[2].ebx = 1u << 5;
    if (_i)
        here.entries[2].function = 5;
    ck_assert_int_lt(check(&shown, &here, &s), 0);
    ck_assert_str_eq(s.why, _i ? "the host lacks avx2, avx512f, avx512_vnni, which the guest uses"
                               : "the host lacks avx512f, which the guest uses");
}
END_TEST

START_TEST(names_from_both_ends_of_a_register)
{
    static const struct {
        unsigned entry;
        uint32_t ecx, edx;
        const char *name;
    } cases[] = {
        { 1, 1u << 0, 0, "pni" },
        { 1, 0, 1u << 31, "pbe" },
        { 1, 1u << 25, 0, "aes" },
        { 2, 1u << 31, 0, "pks" },
        { 2, 0, 1u << 31, "spec_ctrl_ssbd" },
        { 5, 0, 1u << 27, "rdtscp" },
        { 5, 0, 1u << 0, "CPUID 0x80000001.0 EDX bit 0" },
    };
    struct table shown = table(), here = table();
    char wanted[128];
    struct state s;

    snprintf(wanted, sizeof(wanted), "the host lacks %s, which the guest uses", cases[_i].name);
    shown.entries[cases[_i].entry].ecx |= cases[_i].ecx;
    shown.entries[cases[_i].entry].edx |= cases[_i].edx;
    ck_assert_int_lt(check(&shown, &here, &s), 0);
    ck_assert_str_eq(s.why, wanted);
}
END_TEST

START_TEST(more_than_a_message_holds)
{
    struct table shown = table(), here = table();
    struct state s;

    memset(&shown.entries[2].ebx, 0xff, sizeof(shown.entries[2].ebx));
    memset(&shown.entries[1].edx, 0xff, sizeof(shown.entries[1].edx));
    ck_assert_int_lt(check(&shown, &here, &s), 0);
    ck_assert_ptr_nonnull(strstr(s.why, "the host lacks fpu, vme, de, "));
    ck_assert_ptr_nonnull(strstr(s.why, " more, which the guest uses"));
}
END_TEST

START_TEST(another_kind_of_cpu)
{
    struct table shown = table(), here = table();
    struct state s;

    here.entries[0].ebx = 0x68747541;
    here.entries[0].edx = 0x69746e65;
    here.entries[0].ecx = 0x444d4163;
    ck_assert_int_lt(check(&shown, &here, &s), 0);
    ck_assert_ptr_nonnull(strstr(s.why, "AuthenticAMD"));
    ck_assert_ptr_nonnull(strstr(s.why, "GenuineIntel"));
    shown.nent = 0; /* a forged one */
    ck_assert_int_lt(check(&shown, &here, &s), 0);
}
END_TEST

/* 0: of another size, 1: elsewhere, 2: not there. */
START_TEST(extended_registers_in_another_form)
{
    struct table shown = table(), here = table();
    struct state s;

    here.entries[4].eax += _i == 0;
    here.entries[4].ebx += _i == 1;
    here.entries[4].index += _i == 2;
    ck_assert_int_lt(check(&shown, &here, &s), 0);
    ck_assert_ptr_nonnull(strstr(s.why, "in another form"));
}
END_TEST

START_TEST(fewer_address_bits)
{
    struct table shown = table(), here = table();
    struct state s;

    here.entries[6].eax = 39;
    ck_assert_int_lt(check(&shown, &here, &s), 0);
    ck_assert_str_eq(s.why, "the host has 39 bits of physical addresses, and the guest uses 46");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpuid_check");
    TCase *tests = tcase_create("cpuid_check");

    tcase_add_test(tests, the_same_host_or_one_with_more);
    tcase_add_loop_test(tests, what_the_host_lacks_is_named, 0, 2);
    tcase_add_loop_test(tests, names_from_both_ends_of_a_register, 0, 7);
    tcase_add_test(tests, more_than_a_message_holds);
    tcase_add_test(tests, another_kind_of_cpu);
    tcase_add_loop_test(tests, extended_registers_in_another_form, 0, 3);
    tcase_add_test(tests, fewer_address_bits);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
