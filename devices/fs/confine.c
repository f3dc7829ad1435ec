/* SPDX-License-Identifier: MIT */
#include "devices/fs/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
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
#include "vmm/core/seccomp.h"

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

#define ABI_REFER    2 /* the first Landlock that can allow renames between directories */
#define ABI_TRUNCATE 3

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                              \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                              \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
     LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SOCK |  \
     LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)
/* Denied in writable shares, too. */
#define ACCESS_NEVER \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

static int confine_files(int root, bool writable)
{
    struct landlock_ruleset_attr handled = {
        .handled_access_fs = ACCESS_READ | ACCESS_WRITE | ACCESS_NEVER,
    };
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

/* If the thread runs as root: it keeps access to all files and, for writing, may set owners. */
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

static const struct seccomp_rule confine_rules[] = {
    /* The loop that serves the device, and the log. */
    { SYS_ppoll, .reason = "the loop; waiting for a full stderr" },
#ifdef SYS_poll
    { SYS_poll, .reason = "the same" },
#endif
    { SYS_read, .reason = "eventfds: kicks, and loop_call() of other threads" },
    { SYS_write, .reason = "eventfds: irqfds; log messages" },
    { SYS_futex, .reason = "mutexes, shared with the vCPUs" },
    { SYS_clock_gettime, .reason = "clock_gettime(), if the vDSO cannot" },
    { SYS_ioctl, .argument = { 1, UINT32_MAX, TCGETS }, .reason = "isatty() of stderr" },

    /* Names and attributes. */
    { SYS_openat2, .reason = "FUSE_LOOKUP: open a name beneath its directory" },
    { SYS_statx, .reason = "FUSE_GETATTR, and all answers with attributes" },
    { SYS_fcntl, .reason = "F_DUPFD_CLOEXEC of a node's descriptor" },
    { SYS_close, .reason = "FUSE_FORGET, FUSE_RELEASE" },
    { SYS_readlinkat, .reason = "FUSE_READLINK" },
    { SYS_fstatfs, .reason = "FUSE_STATFS; is this a pseudo filesystem?" },
    { SYS_getxattr, .reason = "FUSE_GETXATTR; has the directory a default ACL?" },
    { SYS_listxattr, .reason = "FUSE_LISTXATTR" },

    /* Contents. */
    { SYS_openat, .reason = "FUSE_OPEN, through /proc/self/fd; FUSE_CREATE" },
    { SYS_preadv, .reason = "FUSE_READ" },
    { SYS_pwritev2, .reason = "FUSE_WRITE" },
    { SYS_pwritev, .reason = "the same without flags, with some libcs" },
    { SYS_lseek, .reason = "FUSE_LSEEK; FUSE_READDIR from an offset" },
    { SYS_getdents64, .reason = "FUSE_READDIR" },
    { SYS_fallocate, .reason = "FUSE_FALLOCATE" },
    { SYS_fsync, .reason = "FUSE_FSYNC" },
    { SYS_fdatasync, .reason = "FUSE_FSYNC with FUSE_FSYNC_FDATASYNC" },

    /* Changes to a writable share. */
    { SYS_mkdirat, .reason = "FUSE_MKDIR" },
    { SYS_mknodat, .argument = { 2, S_IFMT, S_IFIFO }, .reason = "FUSE_MKNOD: a pipe" },
    { SYS_mknodat, .argument = { 2, S_IFMT, S_IFSOCK }, .reason = "FUSE_MKNOD: a socket" },
    { SYS_symlinkat, .reason = "FUSE_SYMLINK" },
    { SYS_linkat, .reason = "FUSE_LINK" },
    { SYS_unlinkat, .reason = "FUSE_UNLINK, FUSE_RMDIR" },
    { SYS_renameat2, .reason = "FUSE_RENAME2" },
    { SYS_ftruncate, .reason = "FUSE_SETATTR: size" },
    { SYS_fchmodat, .reason = "FUSE_SETATTR: mode" },
    { SYS_fchownat, .reason = "FUSE_SETATTR: owner; the owner of a new file" },
    { SYS_utimensat, .reason = "FUSE_SETATTR: times" },
    { SYS_fchmod, .reason = "FUSE_WRITE with FUSE_WRITE_KILL_SUIDGID" },
    { SYS_setxattr, .reason = "FUSE_SETXATTR" },
    { SYS_removexattr, .reason = "FUSE_REMOVEXATTR" },

    /* Further threads that serve the share, and inherit this filter. */
    { SYS_clone, .argument = { 0, CLONE_THREAD, CLONE_THREAD }, .reason = "pthread_create()" },
    { SYS_clone3, .error = ENOSYS, .reason = "its flags cannot be checked: libc uses clone()" },
    { SYS_set_robust_list, .reason = "the start of a thread" },
    { SYS_rseq, .reason = "the same" },

    /* Names that appear on the host, in a share below an overlay. */
    { SYS_inotify_init1, .reason = "absent.c" },
    { SYS_inotify_add_watch, .reason = "absent.c" },
    { SYS_timerfd_settime, .reason = "absent.c: its timer" },

    /* The allocator; executable memory is denied. */
    { SYS_mmap, .argument = { 2, PROT_EXEC, 0 }, .reason = "malloc()" },
    { SYS_mprotect, .argument = { 2, PROT_EXEC, 0 }, .reason = "malloc(): a new arena" },
    { SYS_brk, .reason = "malloc() in the main arena" },
    { SYS_mremap, .reason = "realloc()" },
    { SYS_munmap, .reason = "free()" },
    { SYS_madvise, .reason = "free(); the stack of an ending thread" },

    /* Signals, and the end of the thread or the process. */
    { SYS_rt_sigreturn, .reason = "return from a signal handler" },
    { SYS_restart_syscall, .reason = "poll() after SIGSTOP and SIGCONT" },
    { SYS_rt_sigprocmask, .reason = "abort(); the end of a thread" },
    { SYS_rt_sigaction, .reason = "abort()" },
    { SYS_getpid, .reason = "abort()" },
    { SYS_gettid, .reason = "abort()" },
    { SYS_tgkill, .reason = "abort()" },
    { SYS_exit_group, .reason = "abort(), if all else fails" },
    { SYS_exit, .reason = "the end of the thread" },
};

void confine_thread(int root, bool writable)
{
    const struct {
        const char *name;
        int error;
    } layers[] = {
        { "no new privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0 },
        { "capabilities", confine_capabilities(writable) },
        { "Landlock", CONFINE ? confine_files(root, writable) : 0 },
        { "seccomp", CONFINE ? seccomp_restrict(confine_rules, ARRAY_SIZE(confine_rules)) : 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(layers); i++)
        if (layers[i].error)
            log_debug("file server not confined by %s: %s", layers[i].name,
                      strerror(-layers[i].error));
}
