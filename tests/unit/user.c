/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/run/options.h"
#include "vmm/run/user.h"

static struct run_options options;
static struct user user;
static char root[] = "/tmp/minivmm-user-XXXXXX";

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(root));
    ck_assert_int_eq(chdir(root) | mkdir("etc", 0755), 0);
    write_file("etc/passwd", "me:x:1000:100:Me:/home/me:/bin/sh\n");
    write_file("etc/group", "a:x:7:you\nb:x:8:you,me\n");
}

static void teardown(void)
{
    char remove[64];

    run_options_finish(&options);
    snprintf(remove, sizeof(remove), "rm -r %s", root);
    ck_assert_int_eq(chdir("/") | system(remove), 0);
}

static void write_groups(unsigned count)
{
    FILE *file = fopen("etc/group", "w");

    ck_assert_ptr_nonnull(file);
    for (unsigned i = 0; i < count; i++)
        fprintf(file, "g%u:x:%u:you,me\n", i, 100 + i);
    ck_assert_int_eq(fclose(file), 0);
}

static int find(const char *given)
{
    options.user = (char *)given;
    return user_find(&user, &options, root);
}

START_TEST(root_is_the_default)
{
    ck_assert_int_eq(find(NULL), 0);
    ck_assert(user.uid == 0 && user.gid == 0 && user.group_count == 0);
    ck_assert_str_eq(user.name, "root");
}
END_TEST

START_TEST(a_name)
{
    ck_assert_int_eq(find("me"), 0);
    ck_assert(user.uid == 1000 && user.gid == 100);
    ck_assert_str_eq(user.home, "/home/me");
    ck_assert_uint_eq(user.group_count, 1);
    ck_assert_uint_eq(user.groups[0], 8);
}
END_TEST

START_TEST(as_many_groups_as_there_are)
{
    write_groups(3000);
    ck_assert_int_eq(find("me"), 0);
    ck_assert_uint_eq(user.group_count, 3000);
    ck_assert_uint_eq(user.groups[0], 100);
    ck_assert_uint_eq(user.groups[2999], 3099);
    write_groups(70000); /* a process can have 65536 */
    ck_assert_int_eq(find("me"), -E2BIG);
}
END_TEST

START_TEST(a_number)
{
    ck_assert_int_eq(find("1000:5"), 0);
    ck_assert(user.uid == 1000 && user.gid == 5);
    ck_assert_str_eq(user.name, "me");
    ck_assert_int_eq(find("4242"), 0);
    ck_assert(user.uid == 4242 && user.gid == 4242);
}
END_TEST

START_TEST(no_such_user)
{
    ck_assert_int_eq(find("nobody-here"), -EINVAL);
    ck_assert_int_eq(find("1:x"), -EINVAL);
    ck_assert_int_eq(find("4294967295"), -EINVAL);
    ck_assert_int_eq(unlink("etc/passwd"), 0);
    ck_assert_int_eq(find("me"), -EINVAL);
}
END_TEST

/* The host has an /etc/passwd, which must not be found through a link in this root. */
START_TEST(links_lead_into_the_root)
{
    ck_assert_int_eq(rename("etc/passwd", "etc/people") | symlink("/etc/people", "etc/passwd"), 0);
    ck_assert_int_eq(find("me"), 0);
    ck_assert_uint_eq(user.uid, 1000);
    ck_assert_int_eq(unlink("etc/passwd") | symlink("../../../../etc/passwd", "etc/passwd"), 0);
    ck_assert_int_eq(find("me"), -ELOOP); /* the link itself */
    ck_assert_int_eq(find("root"), -ELOOP);
}
END_TEST

START_TEST(only_files_are_read)
{
    int watch;

    ck_assert_int_eq(unlink("etc/passwd") | mkfifo("etc/passwd", 0600), 0);
    watch = tree_watch_opens("etc/passwd");
    ck_assert_int_eq(find("me"), -EINVAL);
    ck_assert(!tree_was_opened(watch));
}
END_TEST

START_TEST(more_groups_than_most_users_have)
{
    FILE *file = fopen("etc/group", "w");

    for (unsigned i = 0; i < 500; i++)
        fprintf(file, "g%u:x:%u:me\n", i, 5000 + i);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(find("me"), 0);
    ck_assert_uint_eq(user.group_count, 500);
    for (unsigned i = 0; i < 500; i++)
        ck_assert_uint_eq(user.groups[i], 5000 + i);
}
END_TEST

/* "Unreadable" for root, too. */
START_TEST(files_that_cannot_be_read)
{
    const char *const names[] = { "etc/passwd", "etc/group" };

    ck_assert_int_eq(unlink(names[_i]) | symlink(names[_i] + 4, names[_i]), 0);
    ck_assert_int_eq(find("me"), -ELOOP);
    ck_assert_int_eq(find("1000:100"), -ELOOP);
    ck_assert_int_eq(find(NULL), 0);
}
END_TEST

/* Whoever has made the root may have made them of holes, which cost nothing. */
START_TEST(files_without_end)
{
    const char *const names[] = { "etc/passwd", "etc/group" };

    ck_assert_int_eq(truncate(names[_i], (off_t)1 << 40), 0);
    ck_assert_int_eq(find("me"), -EFBIG);
    ck_assert_int_eq(find(NULL), 0);
}
END_TEST

/* Such a line refers to other users (nsswitch.conf(5)). libc finds no directory in it. */
START_TEST(a_user_without_a_directory)
{
    write_file("etc/passwd", "+\n");
    ck_assert_int_eq(find("+"), 0);
    ck_assert_ptr_null(user.home);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("user");
    TCase *tests = tcase_create("user");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, root_is_the_default);
    tcase_add_test(tests, a_name);
    tcase_add_test(tests, as_many_groups_as_there_are);
    tcase_add_test(tests, a_number);
    tcase_add_test(tests, no_such_user);
    tcase_add_test(tests, links_lead_into_the_root);
    tcase_add_test(tests, only_files_are_read);
    tcase_add_test(tests, more_groups_than_most_users_have);
    tcase_add_loop_test(tests, files_that_cannot_be_read, 0, 2);
    tcase_add_loop_test(tests, files_without_end, 0, 2);
    tcase_add_test(tests, a_user_without_a_directory);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
