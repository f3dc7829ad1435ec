/* SPDX-License-Identifier: MIT */
#include "vmm/control/http.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define HEAD "PUT /snapshot/create HTTP/1.1\r\n"

/* Reads a copy that ends where no byte may be touched; *ret points to it until the next call. */
static ssize_t read_bytes(const char *bytes, size_t size, struct http_message *ret)
{
    static char *copy;

    free(copy);
    copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    return http_read(copy, size, ret);
}

static ssize_t read_text(const char *text, struct http_message *ret)
{
    return read_bytes(text, strlen(text), ret);
}

START_TEST(a_request)
{
    struct http_message m;
    static const char text[] = HEAD "Host: localhost\r\nContent-Length: 4\r\n\r\nbody";

    ck_assert_int_eq(read_text(text, &m), sizeof(text) - 1);
    ck_assert_str_eq(m.words[0], "PUT");
    ck_assert_str_eq(m.words[1], "/snapshot/create");
    ck_assert_str_eq(m.words[2], "HTTP/1.1");
    ck_assert_uint_eq(m.body_size, 4);
    ck_assert_mem_eq(m.body, "body", 4);
    ck_assert(!m.close);
}
END_TEST

START_TEST(an_answer)
{
    struct http_message m;

    ck_assert_int_gt(read_text("HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n", &m), 0);
    ck_assert_str_eq(m.words[0], "HTTP/1.1");
    ck_assert_str_eq(m.words[1], "204");
    ck_assert_str_eq(m.words[2], "No Content");
    ck_assert_uint_eq(m.body_size, 0);
    ck_assert_int_gt(read_text("HTTP/1.1 200 \r\n\r\n", &m), 0);
    ck_assert_str_eq(m.words[2], "");
}
END_TEST

/* Byte by byte, into one buffer: what was seen before stays as it is until the message is whole. */
START_TEST(fragments)
{
    static const char text[] = HEAD "A: b\r\ncontent-length:\t3 \r\nX:\r\n\r\nxyz";
    char buffer[sizeof(text)];
    struct http_message m;

    for (size_t size = 0; size < sizeof(text) - 1; size++) {
        memcpy(buffer + size, text + size, 1);
        ck_assert_int_eq(http_read(buffer, size, &m), 0);
    }
    ck_assert_int_eq(http_read(buffer, sizeof(text) - 1, &m), sizeof(text) - 1);
    ck_assert_mem_eq(m.body, "xyz", 3);
}
END_TEST

START_TEST(messages_one_after_the_other)
{
    static char text[] = "GET / HTTP/1.1\r\n\r\nPUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
                         "GET /b HTTP/1.1\n\n";
    static const char *const targets[] = { "/", "/a", "/b" };
    size_t at = 0, end = sizeof(text) - 1;
    struct http_message m;

    for (unsigned i = 0; i < ARRAY_SIZE(targets); i++) {
        ssize_t size = http_read(text + at, end - at, &m);

        ck_assert_int_gt(size, 0);
        ck_assert_str_eq(m.words[1], targets[i]);
        at += (size_t)size;
    }
    ck_assert_uint_eq(at, end);
}
END_TEST

static const struct {
    const char *text;
    ssize_t result; /* 0: incomplete; 1: accepted */
} forms[] = {
    { "GET / HTTP/1.1\n\n", 1 },
    { "GET / HTTP/1.0\r\n\r\n", 1 },
    { "GET / HTTP/1.1\r\nA:b\n\r\n", 1 },
    { "GET / HTTP/1.1\r\nA: b: c\r\n\r\n", 1 },
    { "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 1 },
    { "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 1 },
    { "", 0 },
    { "\r", 0 },
    { "GET / HTTP/1.1", 0 },
    { "GET / HTTP/1.1\r\n", 0 },
    { "GET / HTTP/1.1\r\nA: b\r\n", 0 },
    { "GET / HTTP/1.1\r\nA: b\r\n\r", 0 },
    { "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx", 0 },
    { "\r\n\r\n", -EBADMSG },
    { "\n\n", -EBADMSG },
    { "GET\r\n\r\n", -EBADMSG },
    { "GET \r\n\r\n", -EBADMSG },
    { "GET /\r\n\r\n", -EBADMSG },
    { "GET / \r\n\r\n", -EBADMSG },
    { "GET  / HTTP/1.1\r\n\r\n", -EBADMSG },
    { " GET / HTTP/1.1\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1 \r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1 x\r\n\r\n", -EBADMSG },
    { "GET / HTTP/2.0\r\n\r\n", -EBADMSG },
    { "GET / http/1.1\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\n no field\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\nno field\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\n: x\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n", -EBADMSG },       /* goes on */
    { "GET / HTTP/1.1\r\nContent-Length : 1\r\n\r\nx", -EBADMSG }, /* RFC 9112, 5.1 */
    { "GET / HTTP/1.1\r\nContent-Length\t: 1\r\n\r\nx", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: \r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: 1x\r\n\r\nx", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\nx", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\nContent-Length: 51201\r\n\r\n", -EMSGSIZE },
    { "GET / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", -EMSGSIZE },
    { "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -EBADMSG },
    { "GET / HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\n", -EBADMSG },
};

START_TEST(forms_of_lines)
{
    struct http_message m;
    ssize_t got = read_text(forms[_i].text, &m);

    if (forms[_i].result == 1)
        ck_assert_int_eq(got, (ssize_t)strlen(forms[_i].text));
    else
        ck_assert_int_eq(got, forms[_i].result);
}
END_TEST

START_TEST(a_head_has_no_nul)
{
    static const char first[] = "GET /\0 HTTP/1.1\r\n\r\n",
                      field[] = "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
                      body[] = "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\0";
    struct http_message m;

    ck_assert_int_eq(read_bytes(first, sizeof(first) - 1, &m), -EBADMSG);
    ck_assert_int_eq(read_bytes(field, sizeof(field) - 1, &m), -EBADMSG);
    ck_assert_int_gt(read_bytes(body, sizeof(body) - 1, &m), 0);
}
END_TEST

START_TEST(whether_the_connection_ends)
{
    struct http_message m;

    ck_assert_int_gt(read_text("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", &m), 0);
    ck_assert(m.close);
    ck_assert_int_gt(read_text("GET / HTTP/1.1\r\nconnection:  CLOSE \r\n\r\n", &m), 0);
    ck_assert(m.close);
    ck_assert_int_gt(read_text("GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", &m), 0);
    ck_assert(!m.close);
}
END_TEST

START_TEST(a_head_that_never_ends_is_too_long)
{
    static char bytes[HTTP_MAX];
    struct http_message m;

    memset(bytes, 'x', sizeof(bytes));
    ck_assert_int_eq(http_read(bytes, HTTP_MAX_HEAD - 1, &m), 0);
    ck_assert_int_eq(http_read(bytes, HTTP_MAX_HEAD, &m), -EMSGSIZE);
    ck_assert_int_eq(http_read(bytes, HTTP_MAX, &m), -EMSGSIZE);
    memcpy(bytes, "GET / HTTP/1.1\r\nA:", 18);
    ck_assert_int_eq(http_read(bytes, HTTP_MAX, &m), -EMSGSIZE);
    for (size_t at = 18; at + 4 < sizeof(bytes); at += 4)
        memcpy(bytes + at, "\r\nA:", 4);
    ck_assert_int_eq(http_read(bytes, HTTP_MAX, &m), -EMSGSIZE);
}
END_TEST

START_TEST(the_longest_message)
{
    static char bytes[HTTP_MAX];
    static const char head[] = "GET / HTTP/1.1\r\nContent-Length: 51200\r\nA:";
    struct http_message m;

    memset(bytes, 'x', sizeof(bytes));
    memcpy(bytes, head, sizeof(head) - 1);
    memcpy(bytes + HTTP_MAX_HEAD - 4, "\r\n\r\n", 4);
    ck_assert_int_eq(http_read(bytes, HTTP_MAX - 1, &m), 0);
    ck_assert_int_eq(http_read(bytes, HTTP_MAX, &m), HTTP_MAX);
    ck_assert_uint_eq(m.body_size, HTTP_MAX_BODY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *tcase = tcase_create("http");

    tcase_add_test(tcase, a_request);
    tcase_add_test(tcase, an_answer);
    tcase_add_test(tcase, fragments);
    tcase_add_test(tcase, messages_one_after_the_other);
    tcase_add_loop_test(tcase, forms_of_lines, 0, ARRAY_SIZE(forms));
    tcase_add_test(tcase, a_head_has_no_nul);
    tcase_add_test(tcase, whether_the_connection_ends);
    tcase_add_test(tcase, a_head_that_never_ends_is_too_long);
    tcase_add_test(tcase, the_longest_message);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
