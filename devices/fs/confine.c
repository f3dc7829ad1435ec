/* SPDX-License-Identifier: MIT */
#include "devices/fs/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

#define ABI_REFER    2 /* before it, no rename from one directory to another */
#define ABI_TRUNCATE 3

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                              \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                              \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
     LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)
/* Of devices, pipes and sockets nobody may read, write or make any. */
#define ACCESS_NEVER                                                                             \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK | \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SOCK)

static int confine_files(int root, bool writable)
{
    struct landlock_ruleset_attr handled = { ACCESS_READ | ACCESS_WRITE | ACCESS_NEVER };
    struct landlock_path_beneath_attr rule = { .parent_fd = root };
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    int rules, error = 0;

    if (abi < 0)
        return -errno;
    if (abi < ABI_REFER && writable)
        return -EOPNOTSUPP;
    if (abi < ABI_TRUNCATE)
        handled.handled_access_fs &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi < ABI_REFER)
        handled.handled_access_fs &= ~LANDLOCK_ACCESS_FS_REFER;
    rule.allowed_access = handled.handled_access_fs & (ACCESS_READ | (writable ? ACCESS_WRITE : 0));
    rules = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
    if (rules < 0)
        return -errno;
    if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ||
        syscall(SYS_landlock_restrict_self, rules, 0) < 0)
        error = -errno;
    close(rules);
    return error;
}

/* What root's thread keeps: to read and, if it may write, to be whoever a file belongs to. */
static int confine_capabilities(bool writable)
{
    const uint32_t keep =
        writable ? 1u << CAP_DAC_OVERRIDE | 1u << CAP_CHOWN | 1u << CAP_FOWNER | 1u << CAP_FSETID
                 : 1u << CAP_DAC_READ_SEARCH;
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    data[0].permitted &= keep;
    data[0].effective = data[0].permitted;
    data[0].inheritable = data[1].inheritable = 0;
    data[1].permitted = data[1].effective = 0;
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* All the file server needs, with the loop it runs on, the log and libc's allocator. */
static const uint16_t confine_calls[] = {
    SYS_read,        SYS_write,         SYS_preadv,         SYS_preadv2,      SYS_pwritev,
    SYS_pwritev2,    SYS_lseek,         SYS_close,          SYS_fcntl,        SYS_statx,
    SYS_newfstatat,  SYS_fstat,         SYS_fstatfs,        SYS_openat,       SYS_openat2,
    SYS_readlinkat,  SYS_getdents64,    SYS_mkdirat,        SYS_unlinkat,     SYS_symlinkat,
    SYS_linkat,      SYS_renameat2,     SYS_fchmodat,       SYS_fchownat,     SYS_utimensat,
    SYS_ftruncate,   SYS_fallocate,     SYS_fsync,          SYS_fdatasync,    SYS_ppoll,
    SYS_futex,       SYS_clock_gettime, SYS_getpid,         SYS_gettid,       SYS_geteuid,
    SYS_tgkill,      SYS_rt_sigaction,  SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall,
    SYS_sched_yield, SYS_brk,           SYS_mremap,         SYS_munmap,       SYS_madvise,
    SYS_exit,        SYS_exit_group,
#ifdef SYS_poll
    SYS_poll,
#endif
#ifdef SYS_rseq
    SYS_rseq,
#endif
};

/* Memory, but none to execute; and is stderr a terminal? */
static const struct {
    uint16_t call;
    uint8_t argument;
    uint32_t mask, value; /* allowed if the masked argument is this */
} confine_arguments[] = {
    { SYS_mmap, 2, PROT_EXEC, 0 },
    { SYS_mprotect, 2, PROT_EXEC, 0 },
    { SYS_ioctl, 1, UINT32_MAX, TCGETS },
};

#define CALLS     ARRAY_SIZE(confine_calls)
#define ARGUMENTS ARRAY_SIZE(confine_arguments)

struct confine_program {
    struct sock_filter filter[4 + 2 * CALLS + 6 * ARGUMENTS];
    unsigned short length;
};

static void confine_add(struct confine_program *program, struct sock_filter instruction)
{
    program->filter[program->length++] = instruction;
}

static void confine_load(struct confine_program *program, size_t offset)
{
    confine_add(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void confine_return(struct confine_program *program, uint32_t what)
{
    confine_add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

/* Goes on with the next instruction if the accumulator is `value`, else steps over `over`. */
static void confine_equal(struct confine_program *program, uint32_t value, uint8_t over)
{
    confine_add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, over));
}

static uint32_t confine_architecture(void)
{
    return !strcmp(MINIVMM_ARCH, "x86_64") ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;
}

/* A call that is not on the lists gets EPERM: libc may try something, and have another way. */
static int confine_syscalls(void)
{
    struct confine_program program = { .length = 0 };
    struct sock_fprog filter = { .filter = program.filter };

    confine_load(&program, offsetof(struct seccomp_data, arch));
    confine_equal(&program, confine_architecture(), 1);
    confine_load(&program, offsetof(struct seccomp_data, nr));
    /* Of a foreign architecture: the accumulator holds no number of a call, nothing matches. */
    for (unsigned i = 0; i < CALLS; i++) {
        confine_equal(&program, confine_calls[i], 1);
        confine_return(&program, SECCOMP_RET_ALLOW);
    }
    for (unsigned i = 0; i < ARGUMENTS; i++) {
        size_t argument = offsetof(struct seccomp_data, args) + 8 * confine_arguments[i].argument;

        confine_equal(&program, confine_arguments[i].call, 5);
        confine_load(&program, argument); /* its low half: the first on these machines */
        confine_add(&program, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K,
                                                           confine_arguments[i].mask));
        confine_equal(&program, confine_arguments[i].value, 1);
        confine_return(&program, SECCOMP_RET_ALLOW);
        confine_return(&program, SECCOMP_RET_ERRNO | EPERM);
    }
    confine_return(&program, SECCOMP_RET_ERRNO | EPERM);
    filter.len = program.length;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0 ? -errno : 0;
}

/* Of this thread alone, if it need not share one. */
static int confine_umask(void)
{
    if (unshare(CLONE_FS) < 0)
        return -errno;
    umask(0);
    return 0;
}

void confine_thread(int root, bool writable)
{
    const struct {
        const char *what;
        int error;
    } locks[] = {
        { "a umask of its own", confine_umask() },
        { "no new privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0 },
        { "capabilities", confine_capabilities(writable) },
        { "Landlock", CONFINE ? confine_files(root, writable) : 0 },
        { "seccomp", CONFINE ? confine_syscalls() : 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(locks); i++)
        if (locks[i].error)
            log_debug("file server not confined by %s: %s", locks[i].what,
                      strerror(-locks[i].error));
}
