/* SPDX-License-Identifier: MIT */
#include "vmm/core/state.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

#define TEXT_MAX 8

struct thing {
    uint8_t a;
    uint16_t b;
    uint32_t c;
    uint64_t d;
    bool e;
    uint8_t bytes[3];
    uint8_t text[TEXT_MAX];
    uint32_t length;
    uint32_t numbers[4];
    uint32_t count;
};

static const struct thing full = { .a = 0x12,
                                   .b = 0x3456,
                                   .c = 0x789abcde,
                                   .d = 0x1122334455667788,
                                   .e = true,
                                   .bytes = { 1, 2, 3 },
                                   .text = "hello",
                                   .length = 5,
                                   .numbers = { 10, 20, 30 },
                                   .count = 3 };

static void thing_state(struct thing *t, struct state *s, const char *name)
{
    state_section(s, name, 1);
    state_field(s, t, a);
    state_field(s, t, b);
    state_field(s, t, c);
    state_field(s, t, d);
    state_field(s, t, e);
    state_bytes(s, "bytes", t->bytes, sizeof(t->bytes));
    state_data(s, "text", t->text, &t->length, TEXT_MAX);
    t->count = state_count(s, "numbers", t->count, 4);
    for (unsigned i = 0; i < t->count; i++)
        state_u32(s, "number", &t->numbers[i]);
    state_end_section(s);
}

static void save(struct state *s, struct thing *t)
{
    state_begin_save(s);
    thing_state(t, s, "thing0");
    ck_assert_int_eq(s->error, 0);
}

START_TEST(a_saved_state_can_be_loaded)
{
    struct thing from = full, to = { 0 };
    struct state out, in;

    save(&out, &from);
    state_begin_load(&in, out.bytes, out.at);
    thing_state(&to, &in, "thing0");
    ck_assert_int_eq(state_finish(&in), 0);
    ck_assert_mem_eq(&to, &from, sizeof(to));
    ck_assert_int_eq(state_finish(&out), 0);
}
END_TEST

START_TEST(a_large_state_grows_the_buffer)
{
    static uint8_t large[100000], read[sizeof(large)];
    uint32_t length = 0;
    struct state out, in;

    for (unsigned i = 0; i < sizeof(large); i++)
        large[i] = (uint8_t)(i * 7 + i / 256);
    state_begin_save(&out);
    state_section(&out, "large", 1);
    length = sizeof(large);
    state_data(&out, "bytes", large, &length, sizeof(large));
    state_end_section(&out);
    state_begin_load(&in, out.bytes, out.at);
    state_section(&in, "large", 1);
    length = 0;
    state_data(&in, "bytes", read, &length, sizeof(read));
    state_end_section(&in);
    ck_assert_int_eq(state_finish(&in), 0);
    ck_assert_uint_eq(length, sizeof(large));
    ck_assert_mem_eq(read, large, sizeof(large));
    state_finish(&out);
}
END_TEST

START_TEST(truncation_anywhere_is_an_error)
{
    struct thing from = full;
    struct state out, in;

    save(&out, &from);
    for (size_t size = 0; size < out.at; size++) {
        struct thing to = { 0 };

        state_begin_load(&in, out.bytes, size);
        thing_state(&to, &in, "thing0");
        ck_assert_int_eq(state_finish(&in), -EINVAL);
        ck_assert(in.why[0]);
    }
    state_finish(&out);
}
END_TEST

START_TEST(a_changed_byte_is_an_error_or_another_value)
{
    struct thing from = full;
    struct state out, in;
    unsigned errors = 0;

    save(&out, &from);
    for (size_t at = 0; at < out.at; at++) {
        struct thing to = { 0 };

        out.bytes[at] ^= 0xff;
        state_begin_load(&in, out.bytes, out.at);
        thing_state(&to, &in, "thing0");
        if (state_finish(&in))
            errors++;
        else
            ck_assert(memcmp(&to, &from, sizeof(to)));
        ck_assert_uint_le(to.length, TEXT_MAX);
        ck_assert_uint_le(to.count, 4);
        out.bytes[at] ^= 0xff;
    }
    ck_assert_uint_gt(errors, out.at / 2);
    state_finish(&out);
}
END_TEST

START_TEST(bytes_after_the_last_section_are_an_error)
{
    struct thing from = full, to = { 0 };
    struct state out, in;

    save(&out, &from);
    thing_state(&from, &out, "thing1");
    state_begin_load(&in, out.bytes, out.at);
    thing_state(&to, &in, "thing0");
    ck_assert_int_eq(state_finish(&in), -EINVAL);
    state_finish(&out);
}
END_TEST

START_TEST(an_error_names_section_and_field)
{
    struct thing from = full, to = { 0 };
    struct state out, in;

    save(&out, &from);
    state_begin_load(&in, out.bytes, out.at);
    thing_state(&to, &in, "thing1");
    ck_assert_int_eq(state_finish(&in), -EINVAL);
    ck_assert_str_eq(in.why, "thing1: thing1 was expected, not thing0");

    state_begin_load(&in, out.bytes, out.at);
    state_section(&in, "thing0", 1);
    state_u16(&in, "a", &to.b);
    ck_assert_str_eq(in.why, "thing0: a: type 2 was expected, not 1");
    ck_assert_uint_eq(to.b, 0);
    state_fail(&in, "a later one"); /* the first error is kept */
    ck_assert_str_eq(in.why, "thing0: a: type 2 was expected, not 1");
    state_end_section(&in);
    ck_assert_int_eq(state_finish(&in), -EINVAL);
    state_finish(&out);
}
END_TEST

START_TEST(versions)
{
    uint32_t old = 5, new = 7, read = 0;
    struct state out, in;

    state_begin_save(&out);
    state_section(&out, "x", 1);
    state_u32(&out, "old", &old);
    state_end_section(&out);
    state_section(&out, "x", 3);
    state_u32(&out, "new", &new);
    state_end_section(&out);

    state_begin_load(&in, out.bytes, out.at);
    state_section(&in, "x", 2);
    ck_assert(state_since(&in, 1));
    ck_assert(!state_since(&in, 2));
    state_u32(&in, "old", &read);
    ck_assert_uint_eq(read, 5);
    state_end_section(&in);
    ck_assert_int_eq(in.error, 0);
    state_section(&in, "x", 2);
    ck_assert_int_eq(in.error, -EINVAL);
    ck_assert_str_eq(in.why, "x: version 3 was made by a newer minivmm; this one knows 2");
    state_end_section(&in);
    state_finish(&in);
    state_finish(&out);
}
END_TEST

START_TEST(configuration_must_be_equal)
{
    struct state out, in;

    state_begin_save(&out);
    state_section(&out, "disk", 1);
    state_same(&out, "size", 4096);
    state_end_section(&out);
    for (uint64_t ours = 4095; ours <= 4097; ours++) {
        state_begin_load(&in, out.bytes, out.at);
        state_section(&in, "disk", 1);
        state_same(&in, "size", ours);
        state_end_section(&in);
        ck_assert_int_eq(state_finish(&in), ours == 4096 ? 0 : -EINVAL);
    }
    state_finish(&out);
}
END_TEST

/* A tool that knows no device steps through its state. */
START_TEST(sections_and_fields_one_after_the_other)
{
    static const char *const names[] = { "thing0", "a",      "b",      "c",       "d",
                                         "e",      "bytes",  "text",   "numbers", "number",
                                         "number", "number", "thing1", "a" };
    struct thing from = full;
    struct state_item item;
    struct state out, in;

    save(&out, &from);
    thing_state(&from, &out, "thing1");
    state_begin_load(&in, out.bytes, out.at);
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        ck_assert_int_eq(state_next(&in, &item), 1);
        ck_assert_uint_eq(item.name_length, strlen(names[i]));
        ck_assert_mem_eq(item.name, names[i], item.name_length);
        ck_assert_int_eq(item.section, !strncmp(names[i], "thing", 5));
        if (!strcmp(names[i], "d"))
            ck_assert_uint_eq(item.value, full.d);
        if (!strcmp(names[i], "text"))
            ck_assert(item.size == 5 && !memcmp(item.bytes, "hello", 5));
    }
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(state_next(&in, &item), 1);
    ck_assert_int_eq(state_next(&in, &item), 0);
    ck_assert_int_eq(state_next(&in, &item), 0);
    ck_assert_int_eq(state_finish(&in), 0);
    state_finish(&out);
}
END_TEST

/* It ends, and every item lies within the bytes. */
static int step_through(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    struct state_item item;
    unsigned steps = 0;
    struct state in;
    int more;

    memcpy(copy, bytes, size);
    state_begin_load(&in, copy, size);
    while ((more = state_next(&in, &item)) > 0) {
        ck_assert((const uint8_t *)item.name + item.name_length <= copy + size);
        ck_assert(!item.bytes || item.bytes + item.size <= copy + size);
        ck_assert_uint_lt(steps++, size);
    }
    ck_assert_int_eq(state_next(&in, &item), more);
    state_finish(&in);
    free(copy);
    return more;
}

START_TEST(stepping_through_what_is_damaged)
{
    static const uint8_t changes[] = { 0x01, 0x80, 0xff };
    struct thing from = full;
    struct state out;

    save(&out, &from);
    ck_assert_int_eq(step_through(out.bytes, 0), 0);
    for (size_t size = 1; size < out.at; size++)
        ck_assert_int_eq(step_through(out.bytes, size), -EINVAL);
    for (size_t at = 0; at < out.at; at++)
        for (unsigned i = 0; i < sizeof(changes); i++) {
            out.bytes[at] ^= changes[i];
            ck_assert_int_le(step_through(out.bytes, out.at), 0);
            out.bytes[at] ^= changes[i];
        }
    state_finish(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state");
    TCase *tcase = tcase_create("state");

    tcase_add_test(tcase, a_saved_state_can_be_loaded);
    tcase_add_test(tcase, a_large_state_grows_the_buffer);
    tcase_add_test(tcase, truncation_anywhere_is_an_error);
    tcase_add_test(tcase, a_changed_byte_is_an_error_or_another_value);
    tcase_add_test(tcase, bytes_after_the_last_section_are_an_error);
    tcase_add_test(tcase, an_error_names_section_and_field);
    tcase_add_test(tcase, versions);
    tcase_add_test(tcase, configuration_must_be_equal);
    tcase_add_test(tcase, sections_and_fields_one_after_the_other);
    tcase_add_test(tcase, stepping_through_what_is_damaged);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
