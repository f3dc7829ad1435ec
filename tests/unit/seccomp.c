/* SPDX-License-Identifier: MIT */

/* What a thread can do under a filter. A filter is permanent, so each test forks a child. */
#include "vmm/core/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define OTHER_ABI 0x40000000 /* x86: the x32 ABI; on other CPUs not a system call */

static const struct seccomp_rule rules[] = {
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_GETFD }, .reason = "a value" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_GETFL }, .reason = "another value" },
    { SYS_mmap, .argument = { 2, PROT_EXEC, 0 }, .reason = "a mask" },
    { SYS_getpid, .reason = "any arguments" },
    { SYS_munmap, .reason = "what mmap() gave" },
    { SYS_tgkill, .own_process = true, .reason = "the caller's process" },
    { SYS_sync, .error = ENOSYS, .reason = "another error" },
    { SYS_exit_group, .reason = "the end of the child" },
};

static const struct seccomp_list list = { rules, ARRAY_SIZE(rules) };

/* Runs `check` in a child under these rules. It must not use libc, which makes other calls. */
static int run(bool (*check)(void), enum seccomp_denial denial)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        bool good = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                    seccomp_restrict(&list, 1, denial) == 0 && check();

        syscall(SYS_exit_group, good ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static bool holds(bool (*check)(void))
{
    int status = run(check, SECCOMP_FAIL);

    return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

static bool is_refused(long result)
{
    return result == -1 && errno == EPERM;
}

static bool listed_is_allowed(void)
{
    return syscall(SYS_getpid) > 0;
}

START_TEST(a_listed_call_is_allowed)
{
    ck_assert(holds(listed_is_allowed));
}
END_TEST

static bool unlisted_is_refused(void)
{
    return is_refused(syscall(SYS_getppid)) && is_refused(syscall(SYS_dup, STDOUT_FILENO)) &&
           is_refused(syscall(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

START_TEST(any_other_call_fails_with_eperm)
{
    ck_assert(holds(unlisted_is_refused));
}
END_TEST

static bool other_abi_is_refused(void)
{
    return is_refused(syscall(OTHER_ABI | SYS_getpid));
}

START_TEST(the_same_call_of_another_abi_fails_with_eperm)
{
    ck_assert(holds(other_abi_is_refused));
}
END_TEST

static bool value_decides(void)
{
    return syscall(SYS_fcntl, STDOUT_FILENO, F_GETFD) >= 0 &&
           syscall(SYS_fcntl, STDOUT_FILENO, F_GETFL) >= 0 &&
           is_refused(syscall(SYS_fcntl, STDOUT_FILENO, F_SETFL, 0));
}

START_TEST(each_rule_of_a_call_allows_its_own_argument)
{
    ck_assert(holds(value_decides));
}
END_TEST

static long map(int protection)
{
    return syscall(SYS_mmap, NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static bool mask_decides(void)
{
    return map(PROT_READ | PROT_WRITE) != -1 && is_refused(map(PROT_EXEC)) &&
           is_refused(map(PROT_READ | PROT_EXEC));
}

START_TEST(bits_outside_the_mask_do_not_matter)
{
    ck_assert(holds(mask_decides));
}
END_TEST

static bool process_decides(void)
{
    pid_t self = (pid_t)syscall(SYS_getpid);

    return syscall(SYS_tgkill, self, self, 0) == 0 && is_refused(syscall(SYS_tgkill, 1, 1, 0));
}

START_TEST(signals_go_to_the_own_process)
{
    ck_assert(holds(process_decides));
}
END_TEST

static bool error_is_as_listed(void)
{
    return syscall(SYS_sync) == -1 && errno == ENOSYS;
}

START_TEST(a_rule_may_name_the_error)
{
    ck_assert(holds(error_is_as_listed));
}
END_TEST

START_TEST(a_trap_raises_sigsys)
{
    int status = run(unlisted_is_refused, SECCOMP_TRAP);

    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGSYS);
    ck_assert(WIFEXITED(run(listed_is_allowed, SECCOMP_TRAP)));
    ck_assert(WIFSIGNALED(run(other_abi_is_refused, SECCOMP_TRAP)));
}
END_TEST

/* As a tree has as many shapes as there are numbers of rules: calls with their neighbours. */
START_TEST(any_number_of_rules)
{
    struct seccomp_rule many[200];

    for (unsigned count = 1; count < ARRAY_SIZE(many); count += 7) {
        pid_t child;
        int status;

        for (unsigned i = 0; i < count; i++) /* from above, with each second number left out */
            many[i] = (struct seccomp_rule){ (uint16_t)(1000 + 2 * (count - i)), .reason = "any" };
        many[count] = (struct seccomp_rule){ SYS_exit_group, .reason = "the end" };
        child = fork();
        if (child == 0) {
            const struct seccomp_list numbers = { many, count + 1 };
            bool good = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                        seccomp_restrict(&numbers, 1, SECCOMP_FAIL) == 0;

            for (unsigned i = 1; i <= count && good; i++)
                good = syscall(1000 + 2 * i) == -1 && errno == ENOSYS &&
                       is_refused(syscall(1001 + 2 * i)) && is_refused(syscall(999 + 2 * i));
            syscall(SYS_exit_group, good ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), EXIT_SUCCESS);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("seccomp");
    TCase *tcase = tcase_create("seccomp");

    tcase_add_test(tcase, a_listed_call_is_allowed);
    tcase_add_test(tcase, any_other_call_fails_with_eperm);
    tcase_add_test(tcase, the_same_call_of_another_abi_fails_with_eperm);
    tcase_add_test(tcase, each_rule_of_a_call_allows_its_own_argument);
    tcase_add_test(tcase, bits_outside_the_mask_do_not_matter);
    tcase_add_test(tcase, signals_go_to_the_own_process);
    tcase_add_test(tcase, a_rule_may_name_the_error);
    tcase_add_test(tcase, a_trap_raises_sigsys);
    tcase_add_test(tcase, any_number_of_rules);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
