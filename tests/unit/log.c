/* SPDX-License-Identifier: MIT */
#include "vmm/core/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/host.h"
#include "tests/unit/unit.h"

/* stderr becomes a pipe; returns its other end. Each test is a process of its own. */
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

START_TEST(log_flood)
{
    int log = catch_stderr();
    unsigned told[2] = { 0, 0 };

    for (unsigned i = 0; i < 100000; i++)
        log_guest(&told[0], "blk0: once more");
    ck_assert_uint_eq(count_lines(log), 10);
    log_guest(&told[1], "net0: somebody else is still heard");
    ck_assert_uint_eq(count_lines(log), 1);
}
END_TEST

START_TEST(the_last_error_is_kept)
{
    char reason[LOG_REASON_SIZE] = "", longer[2 * LOG_REASON_SIZE];

    catch_stderr();
    log_keep_reason(reason);
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
    ck_assert_uint_eq(strlen(reason), LOG_REASON_SIZE - 2); /* no half of a character */
    log_refuse(EINVAL, "%s", longer + 1);
    ck_assert_uint_eq(strlen(reason), LOG_REASON_SIZE - 1);
    log_keep_reason(NULL);
    log_refuse(EINVAL, "no");
    ck_assert_uint_eq(strlen(reason), LOG_REASON_SIZE - 1);
}
END_TEST

START_TEST(stuck_stderr_holds_nobody_up)
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

START_TEST(names_cannot_break_a_line)
{
    int log = catch_stderr();
    char text[128] = "";

    log_refuse(1, "open a\nb\x1b[2J\x7f");
    ck_assert_int_gt(read(log, text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, "minivmm: open a?b?[2J?\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");

    tcase_add_test(tcase, log_flood);
    tcase_add_test(tcase, the_last_error_is_kept);
    tcase_add_test(tcase, stuck_stderr_holds_nobody_up);
    tcase_add_test(tcase, names_cannot_break_a_line);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
