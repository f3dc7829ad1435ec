/* SPDX-License-Identifier: MIT */
#include "devices/fs/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
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
#include "vmm/core/capabilities.h"
#include "vmm/core/landlock.h"
#include "vmm/core/log.h"
#include "vmm/core/seccomp.h"

static const struct seccomp_rule confine_table[] = {
    /* The loop that serves the device, and the log. */
    { SYS_ppoll, .reason = "the loop; waiting for a full stderr" },
#ifdef SYS_poll
    { SYS_poll, .reason = "the same" },
#endif
    { SYS_read, .reason = "eventfds: kicks, and loop_call() of other threads" },
    { SYS_write, .reason = "eventfds: irqfds; log messages" },
    { SYS_futex, .reason = "mutexes, shared with the vCPUs" },
    { SYS_clock_gettime, .reason = "clock_gettime(), if the vDSO cannot" },
    SECCOMP_IOCTL(TCGETS, "isatty() of stderr"),

    /* A deadly signal: restore the terminal. */
    SECCOMP_IOCTL(TIOCGPGRP, "is the terminal another job's?"),
#ifdef SYS_getpgrp
    { SYS_getpgrp, .reason = "the same" },
#else
    { SYS_getpgid, .reason = "the same" },
#endif
    SECCOMP_IOCTL(TCSETS, "its mode before"),

    /* Names and attributes. */
    { SYS_openat2, .reason = "FUSE_LOOKUP: open a name beneath its directory" },
    { SYS_statx, .reason = "FUSE_GETATTR, and all answers with attributes" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_DUPFD_CLOEXEC }, .reason = "a node's descriptor" },
    { SYS_close, .reason = "FUSE_FORGET, FUSE_RELEASE" },
    { SYS_readlinkat, .reason = "FUSE_READLINK" },
    { SYS_fstatfs, .reason = "FUSE_STATFS; is this a pseudo filesystem?" },
    { SYS_getxattr, .reason = "FUSE_GETXATTR; has the directory a default ACL?" },
    { SYS_listxattr, .reason = "FUSE_LISTXATTR" },

    /* Contents. */
    { SYS_openat, .reason = "FUSE_OPEN, through /proc/self/fd; FUSE_CREATE" },
    { SYS_preadv, .reason = "FUSE_READ" },
    { SYS_lseek, .reason = "FUSE_LSEEK; FUSE_READDIR from an offset" },
    { SYS_getdents64, .reason = "FUSE_READDIR" },
    { SYS_fsync, .reason = "FUSE_FSYNC" },
    { SYS_fdatasync, .reason = "FUSE_FSYNC with FUSE_FSYNC_FDATASYNC" },

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
    { SYS_tgkill, .own_process = true, .reason = "abort()" },
    { SYS_exit_group, .reason = "abort(), if all else fails" },
    { SYS_exit, .reason = "the end of the thread" },
};

/* Landlock does not know the changes of attributes: these calls reach any file. */
static const struct seccomp_rule confine_write_table[] = {
    { SYS_pwritev2, .reason = "FUSE_WRITE" },
    { SYS_pwritev, .reason = "the same without flags, with some libcs" },
    { SYS_fallocate, .reason = "FUSE_FALLOCATE" },
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
};

const struct seccomp_list confine_rules = { confine_table, ARRAY_SIZE(confine_table) };
const struct seccomp_list confine_write_rules = { confine_write_table,
                                                  ARRAY_SIZE(confine_write_table) };

/*
 * What a file server may keep of root: access to all files and, for writing, to their owners.
 * Without CAP_FSETID the kernel clears the set-ID bits of what the guest writes to.
 */
uint32_t confine_capabilities(bool writable)
{
    return writable ? 1u << CAP_DAC_OVERRIDE | 1u << CAP_CHOWN | 1u << CAP_FOWNER
                    : 1u << CAP_DAC_READ_SEARCH;
}

void confine_thread(int root, bool writable)
{
    const struct landlock_tree tree = { root, writable };
    const struct seccomp_list calls[] = { confine_rules, confine_write_rules };
    const struct {
        const char *name;
        int error;
    } layers[] = {
        { "no new privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0 },
        { "capabilities", capabilities_keep(confine_capabilities(writable)) },
        { "Landlock", CONFINE ? landlock_restrict(&tree, 1) : 0 },
        { "seccomp", CONFINE ? seccomp_restrict(calls, writable ? 2 : 1, SECCOMP_FAIL) : 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(layers); i++)
        if (layers[i].error)
            log_debug("file server not confined by %s: %s", layers[i].name,
                      strerror(-layers[i].error));
}
