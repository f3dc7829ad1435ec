/* SPDX-License-Identifier: MIT */
#include "vmm/core/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/host.h"
#include "tests/unit/unit.h"

/* Makes stderr a pipe and returns its read end. Each test runs in its own process. */
static int catch_stderr(void)
{
    struct host_pipe log = host_pipe();

    ck_assert_int_ge(dup2(log.writer, STDERR_FILENO), 0);
    close(log.writer);
    ck_assert_int_eq(fcntl(log.reader, F_SETFL, O_NONBLOCK), 0);
    return log.reader;
}

static unsigned count_lines(int fd)
{
    char text[4096];
    unsigned lines = 0;
    ssize_t got;

    while ((got = read(fd, text, sizeof(text))) > 0)
        for (ssize_t i = 0; i < got; i++)
            lines += text[i] == '\n';
    return lines;
}

START_TEST(guest_warnings_are_rate_limited)
{
    int log = catch_stderr();
    unsigned count[2] = { 0, 0 };

    for (unsigned i = 0; i < 100000; i++)
        log_guest(&count[0], "blk0: once more");
    ck_assert_uint_eq(count_lines(log), 10);
    log_guest(&count[1], "net0: another device has its own limit");
    ck_assert_uint_eq(count_lines(log), 1);
}
END_TEST

START_TEST(the_last_error_is_kept)
{
    char reason[LOG_REASON_SIZE] = "", longer[2 * LOG_REASON_SIZE];

    catch_stderr();
    log_keep_reason(reason, true);
    log_warn("not an error");
    ck_assert_str_eq(reason, "");
    log_error(ENOENT, "open %s", "a\nb");
    ck_assert_str_eq(reason, "open a?b: No such file or directory");
    log_refuse(EINVAL, "no");
    ck_assert_str_eq(reason, "no");
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    log_refuse(EINVAL, "%s", longer);
    ck_assert_uint_eq(strlen(reason), LOG_REASON_SIZE - 1);
    memcpy(&longer[LOG_REASON_SIZE - 2], "\xc3\xa4", 2);
    log_refuse(EINVAL, "%s", longer);
    ck_assert_uint_eq(strlen(reason), LOG_REASON_SIZE - 2); /* cut before a UTF-8 character */
    log_refuse(EINVAL, "%s", longer + 1);
    ck_assert_uint_eq(strlen(reason), LOG_REASON_SIZE - 1);
    log_keep_reason(NULL, true);
    log_refuse(EINVAL, "no");
    ck_assert_uint_eq(strlen(reason), LOG_REASON_SIZE - 1);
}
END_TEST

START_TEST(a_line_is_dropped_if_stderr_is_blocked)
{
    int log = catch_stderr();
    int flags = fcntl(STDERR_FILENO, F_GETFL);
    double before;

    ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(STDERR_FILENO, "x", 1) == 1)
        ;
    ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETFL, flags), 0);

    before = host_seconds();
    log_warn("nobody reads this");
    ck_assert_double_lt(host_seconds() - before, HOST_TIMEOUT_S);
    ck_assert_uint_eq(count_lines(log), 0);
    log_warn("but this");
    ck_assert_uint_eq(count_lines(log), 1);
}
END_TEST

START_TEST(control_characters_are_replaced)
{
    int log = catch_stderr();
    char text[128] = "";

    log_refuse(1, "open a\nb\x1b[2J\x7f, \xc2\x9b"
                  "2J, \xc3\x9b\xc2\xa0");
    ck_assert_int_gt(read(log, text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, "minivmm: open a?b?[2J?, ??2J, \xc3\x9b\xc2\xa0\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");

    tcase_add_test(tcase, guest_warnings_are_rate_limited);
    tcase_add_test(tcase, the_last_error_is_kept);
    tcase_add_test(tcase, a_line_is_dropped_if_stderr_is_blocked);
    tcase_add_test(tcase, control_characters_are_replaced);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
