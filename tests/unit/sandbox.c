/* SPDX-License-Identifier: MIT */

/*
 * What code could do that a guest has smuggled into a running machine: system calls from a thread
 * of the sandbox, which ends the process or lets them fail. It is permanent, so each try is a
 * child.
 */
#include "vmm/machine/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "devices/fs/share.h"
#include "tests/unit/notifiers.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/board/board.h"
#include "vmm/board/parts.h"
#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/loop.h"
#include "vmm/kvm/confine.h"

/* Exit statuses of a child. */
enum { TRY_DENIED, TRY_DONE, TRY_NO_SANDBOX, TRY_BROKEN };

typedef long try_call(void);

static char directory[sizeof(TREE_TEMPLATE)];

/* Calls. -1: failed. */

static long open_a_file(void)
{
    return open("/etc/passwd", O_RDONLY);
}

static long open_beside_the_share(void)
{
    char path[sizeof(directory) + 16];

    snprintf(path, sizeof(path), "%s/../passwd", directory);
    return open(path, O_RDWR | O_CREAT, 0600);
}

static long write_in_the_share(void)
{
    char path[sizeof(directory) + 16];

    snprintf(path, sizeof(path), "%s/made", directory);
    return open(path, O_RDWR | O_CREAT, 0600);
}

static long read_in_the_share(void)
{
    char path[sizeof(directory) + 16];

    snprintf(path, sizeof(path), "%s/file", directory);
    return open(path, O_RDONLY);
}

/* Changes of attributes, which Landlock does not know. */

static long change_a_mode(void)
{
    return fchmodat(AT_FDCWD, directory, 0700, 0);
}

static long change_an_owner(void)
{
    return fchownat(AT_FDCWD, directory, getuid(), getgid(), 0);
}

static long change_times(void)
{
    return utimensat(AT_FDCWD, directory, NULL, 0);
}

static long change_an_attribute(void)
{
    return setxattr(directory, "user.test", "", 0, 0);
}

/* By SIGIO, or the signal of F_SETSIG. */
static long signal_by_a_descriptor(void)
{
    return fcntl(STDIN_FILENO, F_SETOWN, getpid());
}

static long make_a_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static long connect_to_somebody(void)
{
    return connect(STDIN_FILENO, NULL, 0);
}

static long execute(void)
{
    return execl("/bin/true", "true", (char *)NULL);
}

static long trace(void)
{
    return ptrace(PTRACE_ATTACH, 1, NULL, NULL);
}

static long make_a_ring(void)
{
    char params[256] = { 0 };

    return syscall(SYS_io_uring_setup, 8, params);
}

static long register_with_a_ring(void)
{
    return syscall(SYS_io_uring_register, STDIN_FILENO, 0, NULL, 0);
}

static long fork_a_process(void)
{
    return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static long signal_another_process(void)
{
    return kill(1, 0);
}

static long signal_a_thread_of_another_process(void)
{
    return syscall(SYS_tgkill, 1, 1, 0);
}

static long map_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? -1
               : 0;
}

static long make_code(void)
{
    return mprotect((void *)((uintptr_t)directory & ~4095ul), 4096, PROT_READ | PROT_EXEC);
}

static long read_another_process(void)
{
    return syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0);
}

static long make_a_namespace(void)
{
    return unshare(CLONE_NEWUSER);
}

static long become_dumpable(void)
{
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long allow_core_dumps(void)
{
    return setrlimit(RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
}

static long load_a_program(void)
{
    return syscall(SYS_bpf, 0, NULL, 0);
}

static long do_nothing(void)
{
    return getpid();
}

/* A board as machine.c makes it, without KVM. */

struct world {
    struct config config;
    struct board board;
    struct sandbox sandbox;
};

static void set_irq(void *chip, uint32_t pin, bool level)
{
}

static void report(void *owner, enum guest_event event, unsigned code)
{
}

static void quit(void *owner)
{
}

static bool world_make(struct world *w, enum sandbox_mode mode, bool share, bool writable)
{
    const struct terminal_config terminal = { .quit = quit };
    struct board_host host = { .events = { .report = report },
                               .irq = { .set = set_irq },
                               .notifiers = no_notifiers };
    struct share_config *shared;

    if (config_set_defaults(&w->config) < 0)
        return false;
    w->config.kernel = "none";
    w->config.nets = NULL;
    w->config.sandbox = mode;
    w->config.serial.kind = CONSOLE_NONE;
    if (share) {
        shared = config_add_share(&w->config);
        shared->directory.path = directory;
        shared->directory.writable = writable;
    }
    config_complete(&w->config);
    host.loop = loop_create();
    host.memory = guest_memory_create();
    return parts_describe(&w->board, &w->config) == 0 &&
           parts_create(&w->board, &host, &terminal) == 0 &&
           sandbox_enter(&w->sandbox, &w->board) == 0 &&
           sandbox_restrict_calls(&w->sandbox, &w->board) == 0 && board_start(&w->board) == 0;
}

struct
try {
    try_call *call;
    bool share, writable;
    bool vcpu; /* on a thread that is confined as a vCPU's */
};

static void *try_thread(void *arg)
{
    const struct try *try = arg;

    if (try->vcpu && vcpu_confine() < 0)
        _exit(TRY_BROKEN);
    _exit(try->call() == -1 ? TRY_DENIED : TRY_DONE);
    return NULL;
}

static void *end_thread(void *arg)
{
    return arg;
}

static long start_a_thread(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, end_thread, NULL) || pthread_join(thread, NULL) ? -1 : 0;
}

/* Returns the status of waitpid(). */
static int perform(const struct try *try)
{
    struct world world = { .sandbox.calls = false };
    int status;
    pid_t child = fork();

    if (child == 0) {
        pthread_t thread;

        close(STDERR_FILENO);
        if (!world_make(&world, SANDBOX_AUTO, try->share, try->writable))
            _exit(TRY_BROKEN);
        if (!world.sandbox.calls)
            _exit(TRY_NO_SANDBOX);
        pthread_create(&thread, NULL, try_thread, (void *)(uintptr_t)try);
        pthread_join(thread, NULL);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TRY_NO_SANDBOX)
        unit_skip("this host has no seccomp, or sanitizers are built in");
    ck_assert(!WIFEXITED(status) || WEXITSTATUS(status) != TRY_BROKEN);
    return status;
}

static bool is_killed(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static bool is_denied(int status)
{
    return is_killed(status) || (WIFEXITED(status) && WEXITSTATUS(status) == TRY_DENIED);
}

static bool is_done(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == TRY_DONE;
}

static void setup(void)
{
    tree_make(directory);
    tree_put(directory, "file", "text", 4);
}

/* The directory and its file. */
static int chown_tree(uid_t uid)
{
    char path[sizeof(directory) + 16];

    snprintf(path, sizeof(path), "%s/file", directory);
    return chown(directory, uid, uid) || chown(path, uid, uid);
}

static void teardown(void)
{
    tree_remove(directory);
}

static try_call *const denied[] = {
    open_a_file,
    make_a_socket,
    connect_to_somebody,
    execute,
    trace,
    make_a_ring,
    register_with_a_ring,
    fork_a_process,
    signal_another_process,
    signal_a_thread_of_another_process,
    map_code,
    make_code,
    read_another_process,
    make_a_namespace,
    become_dumpable,
    allow_core_dumps,
    load_a_program,
    signal_by_a_descriptor,
    change_a_mode, /* of any file, even if there is a share, but a writable one */
    change_an_owner,
    change_times,
    change_an_attribute,
};

START_TEST(a_denied_call_ends_any_thread)
{
    ck_assert(is_killed(perform(&(struct try){ .call = denied[_i] })));
    ck_assert(is_killed(perform(&(struct try){ .call = denied[_i], .vcpu = true })));
    ck_assert(is_denied(perform(&(struct try){ .call = denied[_i], .share = true })));
}
END_TEST

START_TEST(an_allowed_call_is_made)
{
    ck_assert(is_done(perform(&(struct try){ .call = do_nothing })));
    ck_assert(is_done(perform(&(struct try){ .call = do_nothing, .vcpu = true })));
    ck_assert(is_done(perform(&(struct try){ .call = start_a_thread })));
}
END_TEST

START_TEST(a_vcpu_may_do_less_than_the_process)
{
    ck_assert(is_killed(perform(&(struct try){ .call = start_a_thread, .vcpu = true })));
    ck_assert(is_killed(
        perform(&(struct try){ .call = read_in_the_share, .share = true, .vcpu = true })));
}
END_TEST

START_TEST(of_all_files_only_shares_are_left)
{
    if (syscall(SYS_openat2, AT_FDCWD, "/", NULL, 0) < 0 && errno == ENOSYS)
        unit_skip("no openat2 here, which a share needs");
    ck_assert(is_done(perform(&(struct try){ .call = read_in_the_share, .share = true })));
    ck_assert(is_denied(perform(&(struct try){ .call = write_in_the_share, .share = true })));
    ck_assert(is_done(
        perform(&(struct try){ .call = write_in_the_share, .share = true, .writable = true })));
    ck_assert(is_denied(
        perform(&(struct try){ .call = open_beside_the_share, .share = true, .writable = true })));
}
END_TEST

/* What SIGSYS leaves on standard error. */
START_TEST(the_denied_call_is_named)
{
    struct world world = { .sandbox.calls = false };
    int ends[2], status;
    char text[256] = "";
    pid_t child;

    ck_assert_int_eq(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (!world_make(&world, SANDBOX_AUTO, false, false) || !world.sandbox.calls)
            _exit(TRY_NO_SANDBOX);
        make_a_socket();
        _exit(TRY_DONE);
    }
    close(ends[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TRY_NO_SANDBOX)
        unit_skip("this host has no seccomp, or sanitizers are built in");
    ck_assert(is_killed(status));
    ck_assert_int_gt(read(ends[0], text, sizeof(text) - 1), 0);
    ck_assert_ptr_nonnull(strstr(text, "denied the system call socket:"));
}
END_TEST

START_TEST(off_restricts_nothing)
{
    struct world world = { .sandbox.calls = false };
    int status;
    pid_t child = fork();

    if (child == 0)
        _exit(world_make(&world, SANDBOX_OFF, false, false) && !world.sandbox.calls &&
                      open_a_file() >= 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0
                  ? TRY_DONE
                  : TRY_BROKEN);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(is_done(status));
}
END_TEST

/*
 * What a share answers on its loop's thread in the strictest sandbox, where neither / nor /proc is
 * the host's.
 */
struct answers {
    struct share *share;
    uint32_t uid, gid;
    int error;
};

static void ask_share(void *arg)
{
    const struct share_user user = { .umask = 022 };
    struct answers *answers = arg;
    struct share_entry file, made;
    char value[] = "value", got[8] = "";

    answers->error = share_lookup(answers->share, 1, "file", &file);
    if (answers->error)
        return;
    answers->uid = file.attr.stx_uid;
    answers->gid = file.attr.stx_gid;
    if ((answers->error =
             share_setxattr(answers->share, file.node, "user.minivmm", value, sizeof(value), 0)) ||
        (answers->error = share_getxattr(answers->share, file.node, "user.minivmm", got,
                                         sizeof(got))) != sizeof(value))
        return;
    answers->error = share_mkdir(answers->share, 1, "folder", 0755, user, &made);
    if (!answers->error && (made.attr.stx_uid != 0 || made.attr.stx_gid != 0))
        answers->error = -EPERM;
}

static int ask_in_namespaces(uid_t uid)
{
    struct world world = { .sandbox.calls = false };
    struct answers answers = { .uid = 1 };

    if (uid && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid) ||
                prctl(PR_SET_DUMPABLE, 1))) /* as after execve() */
        return TRY_BROKEN;
    if (!world_make(&world, SANDBOX_STRICT, true, true) || !world.sandbox.calls)
        return TRY_NO_SANDBOX;
    answers.share = world.board.shares[0];
    loop_call(world.board.loops[0].loop, ask_share, &answers);
    if (answers.error || answers.uid != 0 || answers.gid != 0) {
        fprintf(stderr, "error %d, uid %u, gid %u\n", answers.error, answers.uid, answers.gid);
        return TRY_DENIED;
    }
    return TRY_DONE;
}

START_TEST(a_share_is_served_in_namespaces)
{
    /* Not nobody: in a namespace without numbers everything is nobody's. */
    const uid_t ordinary = 1234, uid = _i && geteuid() == 0 ? ordinary : geteuid();
    int status;
    pid_t child;

    if (uid == ordinary && chown_tree(uid))
        ck_abort_msg("chown: %s", strerror(errno));
    child = fork();
    if (child == 0)
        _exit(ask_in_namespaces(uid == geteuid() ? 0 : uid));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TRY_NO_SANDBOX)
        unit_skip("this host allows this user no namespaces, or sanitizers are built in");
    ck_assert(is_done(status));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox");
    TCase *tcase = tcase_create("sandbox");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, a_denied_call_ends_any_thread, 0, ARRAY_SIZE(denied));
    tcase_add_test(tcase, an_allowed_call_is_made);
    tcase_add_test(tcase, a_vcpu_may_do_less_than_the_process);
    tcase_add_test(tcase, of_all_files_only_shares_are_left);
    tcase_add_test(tcase, the_denied_call_is_named);
    tcase_add_test(tcase, off_restricts_nothing);
    tcase_add_loop_test(tcase, a_share_is_served_in_namespaces, 0, 2); /* as we are, as another */
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
