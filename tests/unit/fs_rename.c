/* SPDX-License-Identifier: MIT */

/*
 * Requests for files that the guest is renaming. The share makes some system calls by syscall(),
 * which is wrapped here (see meson.build), so that a test can let the share serve another request
 * just before or after the host renames.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "tests/unit/fuse_client.h"
#include "tests/unit/unit.h"

#define ROOT     FUSE_ROOT_ID
#define EXCHANGE (1u << 1) /* RENAME_EXCHANGE */

static struct client c;
static uint64_t folder, inner, deep, file, other; /* "deep" is in "inner", that in "folder" */
static unsigned served;                           /* calls of the hooks */
static void (*before_call)(long number), (*after_call)(long number);

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
    long args[6], result;
    va_list list;

    va_start(list, number);
    for (unsigned i = 0; i < ARRAY_SIZE(args); i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (before_call)
        before_call(number);
    result = __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (after_call)
        after_call(number);
    return result;
}

static void setup(void)
{
    client_init(&c, true);
    c.budget.directories = 1; /* the others have no descriptor that finds them anyway */
    client_write_file(&c, "file", "file");
    client_write_file(&c, "other", "other");
    ck_assert_int_eq(mkdir(client_path(&c, "elsewhere"), 0755), 0);
    ck_assert_int_eq(mkdir(client_path(&c, "folder"), 0755), 0);
    ck_assert_int_eq(mkdir(client_path(&c, "folder/inner"), 0755), 0);
    client_write_file(&c, "folder/inner/deep", "deep");
    folder = client_lookup(&c, ROOT, "folder");
    inner = client_lookup(&c, folder, "inner");
    deep = client_lookup(&c, inner, "deep");
    file = client_lookup(&c, ROOT, "file");
    other = client_lookup(&c, ROOT, "other");
    ck_assert_int_eq(
        client_ask(&c, FUSE_LOOKUP, client_lookup(&c, ROOT, "elsewhere"), NULL, 0, "absent", NULL),
        0);
}

static void teardown(void)
{
    client_finish(&c);
}

/* The name has changed on the host, but the request that did it has not returned yet. */
static void use_what_is_renamed(long number)
{
    const uint64_t files[] = { deep, file, other };
    static struct client waiting; /* its request */

    if (number != SYS_renameat2)
        return;
    after_call = NULL;
    waiting = c;
    ck_assert_int_eq(client_getattr(&c, folder), 0);
    ck_assert_int_eq(client_getattr(&c, inner), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        ck_assert_int_eq(client_getattr(&c, files[i]), 0);
        ck_assert_int_eq(client_release(&c, files[i], client_open(&c, files[i], O_RDONLY)), 0);
    }
    c = waiting;
    served++;
}

START_TEST(files_are_known_while_they_are_renamed)
{
    char now[128];

    after_call = use_what_is_renamed;
    ck_assert_int_eq(client_rename2(&c, ROOT, "folder", ROOT, "moved", 0), 0);
    after_call = use_what_is_renamed;
    ck_assert_int_eq(client_rename2(&c, ROOT, "file", folder, "renamed", 0), 0);
    after_call = use_what_is_renamed;
    ck_assert_int_eq(client_rename2(&c, folder, "renamed", ROOT, "other", EXCHANGE), 0);
    ck_assert_uint_eq(served, 3);

    /* Afterwards a file is found by its name again. */
    client_write_file(&c, "new", "new");
    strcpy(now, client_path(&c, "new"));
    ck_assert_int_eq(rename(now, client_path(&c, "other")), 0);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
}
END_TEST

/* The host is about to look for a path that is overtaken by a rename. */
static void rename_what_is_used(long number)
{
    static struct client waiting;

    if (number != SYS_openat2)
        return;
    before_call = NULL;
    waiting = c;
    ck_assert_int_eq(client_rename2(&c, ROOT, served % 2 ? "moved" : "folder", ROOT,
                                    served % 2 ? "folder" : "moved", 0),
                     0);
    c = waiting;
    served++;
}

START_TEST(a_rename_may_overtake_another_request)
{
    before_call = rename_what_is_used;
    client_release(&c, deep, client_open(&c, deep, O_RDONLY));
    c.budget.directories = 0;
    before_call = rename_what_is_used;
    ck_assert_int_eq(client_getattr(&c, deep), 0);
    ck_assert_uint_eq(served, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fs_rename");
    TCase *tcase = tcase_create("fs_rename");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, files_are_known_while_they_are_renamed);
    tcase_add_test(tcase, a_rename_may_overtake_another_request);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
