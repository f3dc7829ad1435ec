/* SPDX-License-Identifier: MIT */
#include "vmm/core/write.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define SIZE (1u << 20)

static uint8_t bytes[SIZE];

static void *read_slowly(void *arg)
{
    static uint8_t got[SIZE + 5000];
    size_t size = 0;
    ssize_t part;

    while ((part = read(*(int *)arg, got + size, 5000)) > 0)
        size += (size_t)part;
    return size == SIZE && !memcmp(got, bytes, SIZE) ? arg : NULL;
}

/* A pipe takes 64 KiB at a time. */
START_TEST(a_pipe_gets_all)
{
    pthread_t reader;
    void *result;
    int fds[2];

    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i / 251);
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_slowly, &fds[0]), 0);
    ck_assert_int_eq(write_all(fds[1], bytes, SIZE), 0);
    close(fds[1]);
    pthread_join(reader, &result);
    ck_assert_ptr_nonnull(result);
    close(fds[0]);
}
END_TEST

START_TEST(a_file_has_them_at_the_offset)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    char text[8] = "";

    ck_assert_int_eq(write_all(fd, "abcdef", 6), 0);
    ck_assert_int_eq(write_all_at(fd, "xy", 2, 1), 0);
    ck_assert_int_eq(write_all(fd, "g", 1), 0);
    ck_assert_int_eq(pread(fd, text, sizeof(text), 0), 7);
    ck_assert_str_eq(text, "axydefg");
    ck_assert_int_eq(write_all_at(fd, NULL, 0, 0), 0);
    close(fd);
}
END_TEST

START_TEST(failures_are_told)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC), fds[2];

    ck_assert_int_eq(write_all(fd, "a", 1), -ENOSPC);
    ck_assert_int_eq(write_all_at(fd, "a", 1, 0), -ENOSPC);
    close(fd);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(write_all_at(fds[1], "a", 1, 0), -ESPIPE);
    close(fds[0]);
    ck_assert_int_eq(write_all(fds[1], "a", 1), -EPIPE);
    close(fds[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("write");
    TCase *tcase = tcase_create("write");

    tcase_add_test(tcase, a_pipe_gets_all);
    tcase_add_test(tcase, a_file_has_them_at_the_offset);
    tcase_add_test(tcase, failures_are_told);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
