/* SPDX-License-Identifier: MIT */
#include "vmm/control/json.h"

#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

static char why[300];

static struct json *read_text(const char *text)
{
    return json_read(text, strlen(text), why, sizeof(why));
}

START_TEST(members_of_an_object)
{
    static const char *const keys[] = { "text", "yes", "no", "number", "null", "list", NULL };
    struct json *json =
        read_text("{\"text\":\"a\",\"yes\":true,\"no\":false,\"number\":1,\"null\":null,"
                  "\"list\":[\"x\",\"y\"]}");
    const char *other = "unchanged";

    ck_assert_ptr_nonnull(json);
    ck_assert_str_eq(json_text(json_member(json, "text")), "a");
    ck_assert(json_flag(json_member(json, "yes")) && json_is_flag(json_member(json, "yes")));
    ck_assert(!json_flag(json_member(json, "no")) && json_is_flag(json_member(json, "no")));
    ck_assert(!json_is_flag(json_member(json, "number")));
    ck_assert_ptr_null(json_member(json, "null"));
    ck_assert_ptr_null(json_member(json, "absent"));
    ck_assert_str_eq(json_text(json_entry(json_member(json, "list"), 1)), "y");
    ck_assert_ptr_null(json_entry(json_member(json, "list"), 2));
    ck_assert(json_has_only(json, keys, &other));
    ck_assert(!json_has_only(json, keys + 1, &other));
    ck_assert_str_eq(other, "text");
    json_free(json);
}
END_TEST

/* What a peer sends instead of what is expected. */
START_TEST(values_of_other_types)
{
    static const char *const texts[] = { "[]", "1", "1.5", "true", "null", "\"text\"", "[{}]" };
    static const char *const keys[] = { "key", NULL };

    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
        char object[64];
        const struct json *value;
        struct json *json;
        const char *other = "unchanged";

        snprintf(object, sizeof(object), "{\"key\":%s}", texts[i]);
        json = read_text(object);
        value = json_member(json, "key");
        ck_assert_ptr_null(value ? json_member(value, "key") : NULL);
        ck_assert(!strcmp(texts[i], "\"text\"") || !json_text(value));
        ck_assert(!strcmp(texts[i], "[{}]") || !json_entry(value, 0));
        ck_assert_int_eq(json_is_flag(value), !strcmp(texts[i], "true"));
        ck_assert(!value || !json_has_only(value, keys, &other));
        ck_assert(!value || !other);
        json_free(json);
    }
    ck_assert_ptr_null(json_member(NULL, "key"));
    ck_assert_ptr_null(json_text(NULL));
    ck_assert_ptr_null(json_entry(NULL, 0));
    ck_assert(!json_flag(NULL) && !json_is_flag(NULL));
    json_free(NULL);
}
END_TEST

START_TEST(what_is_not_json)
{
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "}",
        "{}x",
        "{\"a\":1,\"a\":1}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":\"\xff\"}",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "{\"\\u0000\":1}",
        "[1,]",
        "NaN",
        "1e999",
        "\"\n\"",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
        *why = '\0';
        ck_assert_msg(!read_text(texts[i]), "%s", texts[i]);
        ck_assert(strstr(why, " at line "));
    }
    ck_assert_ptr_null(json_read("{}\0", 3, why, sizeof(why)));
    ck_assert_ptr_null(json_read(NULL, 0, why, sizeof(why)));
}
END_TEST

START_TEST(deep_values_cost_no_stack)
{
    static char deep[51200];
    struct json *json;

    memset(deep, '[', sizeof(deep));
    ck_assert_ptr_null(json_read(deep, sizeof(deep), why, sizeof(why)));
    memset(deep, '[', 1000);
    memset(deep + 1000, ']', 1000);
    json = json_read(deep, 2000, why, sizeof(why));
    ck_assert_ptr_nonnull(json);
    json_free(json);
}
END_TEST

/* Such as names of files. What comes back is the text, but for what is no UTF-8. */
START_TEST(any_text_can_be_quoted)
{
    static const struct {
        const char *text, *read;
    } texts[] = {
        { "", "" },
        { "/tmp/a b", "/tmp/a b" },
        { "\"\\\n\t\x01\x1f\x7f", "\"\\\n\t\x01\x1f\x7f" },
        { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
        { "latin\xe4.img", "latin\xef\xbf\xbd.img" },
        { "\xff", "\xef\xbf\xbd" },
        { "\x80"
          "a",
          "\xef\xbf\xbd"
          "a" },                    /* continues nothing */
        { "\xc3", "\xef\xbf\xbd" }, /* ends too early */
        { "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd" }, /* too long */
        { "\xe0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* half a pair */
        { "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
    };
    char quoted[256], array[300];

    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
        struct json *json;

        snprintf(array, sizeof(array), "[%s]", json_quote(texts[i].text, quoted, sizeof(quoted)));
        json = read_text(array);
        ck_assert_msg(json, "%s: %s", array, why);
        ck_assert_str_eq(json_text(json_entry(json, 0)), texts[i].read);
        json_free(json);
    }
}
END_TEST

START_TEST(every_byte_and_pair_of_bytes_can_be_quoted)
{
    char quoted[64], array[70];

    for (unsigned pair = 1; pair < 65536; pair++) {
        const char text[] = { (char)pair, (char)(pair >> 8), 0 };
        struct json *json;

        snprintf(array, sizeof(array), "[%s]", json_quote(text, quoted, sizeof(quoted)));
        json = read_text(array);
        ck_assert_msg(json, "%x: %s", pair, why);
        json_free(json);
    }
}
END_TEST

START_TEST(a_long_text_is_cut_off)
{
    static const char *const units[] = { "x", "\"", "\xff", "\xf0\x9f\x98\x80" };
    char text[200], array[120];

    for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
        *text = '\0';
        while (strlen(text) + 4 < sizeof(text))
            strcat(text, units[i]);
        for (size_t size = 16; size <= 100; size++) {
            char *quoted = malloc(size); /* so that a sanitizer knows its end */
            struct json *json;

            snprintf(array, sizeof(array), "[%s]", json_quote(text, quoted, size));
            ck_assert_uint_lt(strlen(quoted), size);
            json = read_text(array);
            ck_assert_msg(json, "%s: %s", array, why);
            json_free(json);
            free(quoted);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json");
    TCase *tcase = tcase_create("json");

    if (json_open() < 0)
        return unit_skip_all("no libjansson");
    tcase_add_test(tcase, members_of_an_object);
    tcase_add_test(tcase, values_of_other_types);
    tcase_add_test(tcase, what_is_not_json);
    tcase_add_test(tcase, deep_values_cost_no_stack);
    tcase_add_test(tcase, any_text_can_be_quoted);
    tcase_add_test(tcase, every_byte_and_pair_of_bytes_can_be_quoted);
    tcase_add_test(tcase, a_long_text_is_cut_off);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
