/* SPDX-License-Identifier: MIT */
#include "vmm/core/sg.h"

#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

/* "abcdefghij", cut into pieces of at most `most` bytes in every possible way, some empty. */
#define TEXT "abcdefghij"

struct pieces {
    char bytes[11];
    struct iovec iov[32];
    struct sg sg;
};

static void cut(struct pieces *p, size_t most)
{
    unsigned count = 0;

    memcpy(p->bytes, TEXT, sizeof(p->bytes));
    for (size_t at = 0; at < 10; at += most) {
        p->iov[count++] = (struct iovec){ p->bytes + at, at + most > 10 ? 10 - at : most };
        p->iov[count++] = (struct iovec){ p->bytes, 0 };
    }
    p->sg = (struct sg){ .iov = p->iov, .length = 10 };
}

START_TEST(reads_do_not_depend_on_the_pieces)
{
    for (size_t most = 1; most <= 10; most++) {
        struct pieces p;
        char out[11] = "";

        cut(&p, most);
        ck_assert(sg_read(&p.sg, out, 3));
        ck_assert(sg_skip(&p.sg, 2));
        ck_assert(sg_read(&p.sg, out + 3, 4));
        ck_assert_str_eq(out, "abcfghi");
        ck_assert_uint_eq(p.sg.length, 1);

        cut(&p, most);
        ck_assert(sg_write(&p.sg, "XYZ", 3));
        ck_assert(sg_zero(&p.sg, 2));
        ck_assert_mem_eq(p.bytes, "XYZ\0\0fghij", 10);
    }
}
END_TEST

START_TEST(too_few_bytes_left_consumes_nothing)
{
    struct pieces p;
    char out[20] = "untouched";

    cut(&p, 3);
    ck_assert(!sg_read(&p.sg, out, 11));
    ck_assert(!sg_write(&p.sg, out, 11));
    ck_assert(!sg_zero(&p.sg, 11));
    ck_assert(!sg_skip(&p.sg, 11));
    ck_assert_str_eq(out, "untouched");
    ck_assert_str_eq(p.bytes, TEXT);
    ck_assert_uint_eq(p.sg.length, 10);
}
END_TEST

START_TEST(the_last_byte_is_removed)
{
    for (size_t most = 1; most <= 10; most++) {
        struct pieces p;

        cut(&p, most);
        for (unsigned i = 0; i < 10; i++)
            ck_assert_ptr_eq(sg_take_last_byte(&p.sg), p.bytes + 9 - i);
        ck_assert_ptr_null(sg_take_last_byte(&p.sg));
    }
}
END_TEST

START_TEST(trim_cuts_the_pieces_to_the_slice)
{
    for (size_t most = 1; most <= 10; most++)
        for (size_t head = 0; head <= 10; head++)
            for (size_t tail = 0; head + tail <= 10; tail++) {
                struct pieces p;
                char out[11] = "";
                size_t used = 0;
                unsigned count;

                cut(&p, most);
                sg_skip(&p.sg, head);
                p.sg.length -= tail;
                count = sg_trim(&p.sg);
                for (unsigned i = 0; i < count; i++) {
                    memcpy(out + used, p.sg.iov[i].iov_base, p.sg.iov[i].iov_len);
                    used += p.sg.iov[i].iov_len;
                }
                ck_assert_uint_eq(used, 10 - head - tail);
                ck_assert_int_eq(strncmp(out, &TEXT[head], used), 0);
                ck_assert_uint_eq(p.sg.skip, 0);
                ck_assert_uint_eq(p.sg.length, used);
            }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sg");
    TCase *tcase = tcase_create("sg");

    tcase_add_test(tcase, reads_do_not_depend_on_the_pieces);
    tcase_add_test(tcase, too_few_bytes_left_consumes_nothing);
    tcase_add_test(tcase, the_last_byte_is_removed);
    tcase_add_test(tcase, trim_cuts_the_pieces_to_the_slice);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
