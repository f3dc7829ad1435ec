/* SPDX-License-Identifier: MIT */

/* What code of the guest's could do in minivmm-net: little. */
#include "vmm/user_net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "settings.h"
#include "tests/unit/unit.h"

static bool have_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 1;
}

/* Check's process of the test would be confined, too, and could not report. */
static void check_confined(void (*try)(void))
{
    pid_t child = fork();
    int status;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        confine_network();
        try();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "line %d, or status 0x%x",
                  WEXITSTATUS(status), status);
}

/* In the child. Exit statuses are below 256; so is this file's length. */
#define DEMAND(truth)        \
    do {                     \
        if (!(truth))        \
            _exit(__LINE__); \
    } while (0)
#define DENIED(call) DEMAND((call) < 0 && (errno == EPERM || errno == EACCES))

static void try_files(void)
{
    static const char *const paths[] = { "/",    "/proc/self/maps", "/tmp",
                                         "/etc", "/usr/bin/env",    "/dev/null" };

    for (unsigned i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        DENIED(open(paths[i], O_RDONLY));
    DENIED(open("/etc/hosts", O_RDWR));
    DENIED(open("/etc/minivmm-test", O_RDONLY | O_CREAT, 0600));
    DENIED(open("/tmp", O_RDWR | O_TMPFILE, 0600));
    DENIED(unlink("/etc/hosts"));
    DENIED(chmod("/etc/hosts", 0777));
    DEMAND(access("/etc/hosts", F_OK) < 0); /* needs a call that is not allowed */
    DEMAND(open("/etc/passwd", O_RDONLY) >= 0);
}

START_TEST(no_files_but_those_that_name_servers)
{
    if (!have_landlock())
        unit_skip("this kernel has no Landlock");
    check_confined(try_files);
}
END_TEST

static void try_terminal(void)
{
    char keys[8];

    DEMAND(read(STDERR_FILENO, keys, sizeof(keys)) < 0 && errno == EBADF);
    DEMAND(write(STDERR_FILENO, "message\n", 8) == 8);
}

/* What the user types into a shell, for example, while the machine is in the background. */
START_TEST(no_keys_of_the_terminal_that_it_prints_to)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), before, slave;

    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
        unit_skip("this host has no pseudo-terminals");
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    before = dup(STDERR_FILENO);
    ck_assert_int_eq(write(master, "secret\n", 7), 7);
    ck_assert_int_eq(dup2(slave, STDERR_FILENO), STDERR_FILENO);
    check_confined(try_terminal);
    dup2(before, STDERR_FILENO);
}
END_TEST

static void try_processes(void)
{
    char *const argv[] = { (char *)"true", NULL };

    DENIED(execv("/bin/true", argv));
    DENIED(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    DENIED(kill(getppid(), 0));
    DENIED(syscall(SYS_tkill, getppid(), 0));
    DENIED(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    DENIED(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0));
    DENIED(unshare(CLONE_NEWUSER));
    DENIED(setuid(0));
    DENIED(prctl(PR_SET_DUMPABLE, 1));
    DENIED(syscall(SYS_io_uring_setup, 1, NULL));
    DENIED(syscall(SYS_bpf, 0, NULL, 0));
    DENIED(fcntl(0, F_SETOWN, getpid())); /* SIGIO for others */
}

START_TEST(no_other_process)
{
    check_confined(try_processes);
}
END_TEST

static void try_sockets(void)
{
    const struct sockaddr_in any = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM, 0), pair[2];

    DEMAND(fd >= 0);
    DENIED(bind(fd, (void *)&any, sizeof(any)));
    DENIED(listen(fd, 1));
    DENIED(socket(AF_UNIX, SOCK_STREAM, 0));
    DENIED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    DENIED(socket(AF_NETLINK, SOCK_RAW, 0));
    DENIED(socket(AF_PACKET, SOCK_RAW, 0));
    DENIED(socket(AF_VSOCK, SOCK_STREAM, 0));
    DENIED(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

START_TEST(no_port_and_no_other_kind_of_socket)
{
    check_confined(try_sockets);
}
END_TEST

static void try_memory(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    DEMAND(page != MAP_FAILED);
    DENIED(mprotect(page, 4096, PROT_READ | PROT_EXEC));
    DEMAND(mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    DEMAND(mmap(NULL, 512 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    for (unsigned i = 0; i < 1024; i++)
        if (socket(AF_INET, SOCK_DGRAM, 0) < 0)
            DEMAND(errno == EMFILE && i > 900);
    DEMAND(socket(AF_INET, SOCK_DGRAM, 0) < 0);
}

START_TEST(memory_and_descriptors_have_a_limit)
{
    check_confined(try_memory);
}
END_TEST

/* /proc tells what the kernel believes. */
static void check_status(const char *status, const char *wanted)
{
    ck_assert_msg(strstr(status, wanted), "no '%s' in:\n%s", wanted, status);
}

START_TEST(no_capability_and_no_way_to_one)
{
    char path[64], status[4096] = "", byte = 0;
    int ready[2], fd;
    pid_t child;

    ck_assert_int_eq(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        confine_network();
        _exit(write(ready[1], &byte, 1) != 1 || poll(NULL, 0, -1));
    }
    snprintf(path, sizeof(path), "/proc/%d/status", child);
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    fd = open(path, O_RDONLY);
    ck_assert_int_gt(read(fd, status, sizeof(status) - 1), 0);
    close(fd);
    kill(child, SIGKILL);
    check_status(status, "NoNewPrivs:\t1\n");
    check_status(status, "CapPrm:\t0000000000000000\n");
    check_status(status, "CapEff:\t0000000000000000\n");
    check_status(status, "Seccomp:\t2\n");
    ck_assert_msg(geteuid() != 0 || !strstr(status, "Uid:\t0\t"), "it is root:\n%s", status);
}
END_TEST

int main(void)
{
    Suite *suite;
    TCase *tests;

    if (!CONFINE)
        return unit_skip_all("a build with a sanitizer does not confine");
    suite = suite_create("user_confine");
    tests = tcase_create("confine");
    tcase_add_test(tests, no_files_but_those_that_name_servers);
    tcase_add_test(tests, no_keys_of_the_terminal_that_it_prints_to);
    tcase_add_test(tests, no_other_process);
    tcase_add_test(tests, no_port_and_no_other_kind_of_socket);
    tcase_add_test(tests, memory_and_descriptors_have_a_limit);
    tcase_add_test(tests, no_capability_and_no_way_to_one);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
