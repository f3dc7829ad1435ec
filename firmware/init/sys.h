/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_SYS_H
#define FIRMWARE_INIT_SYS_H

#include <fcntl.h>
#include <linux/reboot.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

/*
 * The system calls of the init, which is linked without a C library. Constants and types come from
 * the build host's headers; host and guest have the same architecture. All return a negative errno
 * on failure.
 */
long sys_call(long number, long a, long b, long c, long d, long e, long f);

static inline int sys_open(const char *path, int flags)
{
    return (int)sys_call(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0644, 0, 0);
}

static inline int sys_close(int fd)
{
    return (int)sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline long sys_read(int fd, void *bytes, size_t size)
{
    return sys_call(SYS_read, fd, (long)bytes, (long)size, 0, 0, 0);
}

static inline long sys_write(int fd, const void *bytes, size_t size)
{
    return sys_call(SYS_write, fd, (long)bytes, (long)size, 0, 0, 0);
}

static inline long sys_size(int fd)
{
    return sys_call(SYS_lseek, fd, 0, 2 /* SEEK_END */, 0, 0, 0);
}

static inline long sys_list(int fd, void *entries, size_t size)
{
    return sys_call(SYS_getdents64, fd, (long)entries, (long)size, 0, 0, 0);
}

static inline int sys_ioctl(int fd, unsigned long request, const void *argument)
{
    return (int)sys_call(SYS_ioctl, fd, (long)request, (long)argument, 0, 0, 0);
}

static inline int sys_set_flags(int fd, int flags)
{
    return (int)sys_call(SYS_fcntl, fd, F_SETFL, flags, 0, 0, 0);
}

static inline int sys_chown_fd(int fd, uint32_t uid, uint32_t gid)
{
    return (int)sys_call(SYS_fchown, fd, uid, gid, 0, 0, 0);
}

static inline int sys_pipe(int ends[2])
{
    return (int)sys_call(SYS_pipe2, (long)ends, O_CLOEXEC, 0, 0, 0, 0);
}

/* Unlike the others, the new descriptor is not close-on-exec. */
static inline int sys_dup(int fd, int wanted)
{
    return (int)sys_call(SYS_dup3, fd, wanted, 0, 0, 0, 0);
}

static inline int sys_copy(int fd)
{
    return (int)sys_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0, 0, 0, 0);
}

static inline int sys_poll(struct pollfd *set, unsigned count, const struct timespec *timeout)
{
    return (int)sys_call(SYS_ppoll, (long)set, count, (long)timeout, 0, 0, 0);
}

/* Maps zeroed memory (fd -1) or a file, privately. Never unmapped. NULL on failure. */
static inline void *sys_map(size_t size, int fd)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE;
    long at = sys_call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, flags, fd, 0);

    return at < 0 && at > -4096 ? NULL : (void *)at;
}

static inline int sys_mkdir(const char *path, unsigned mode)
{
    return (int)sys_call(SYS_mkdirat, AT_FDCWD, (long)path, mode, 0, 0, 0);
}

static inline int sys_chmod(const char *path, unsigned mode)
{
    return (int)sys_call(SYS_fchmodat, AT_FDCWD, (long)path, mode, 0, 0, 0);
}

static inline int sys_make_node(const char *path, unsigned mode, unsigned major, unsigned minor)
{
    unsigned device = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;

    return (int)sys_call(SYS_mknodat, AT_FDCWD, (long)path, mode, device, 0, 0);
}

static inline int sys_unlink(const char *path)
{
    return (int)sys_call(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0, 0, 0);
}

static inline int sys_symlink(const char *target, const char *path)
{
    return (int)sys_call(SYS_symlinkat, (long)target, AT_FDCWD, (long)path, 0, 0, 0);
}

/* Returns the target's length; it is not terminated. */
static inline long sys_read_link(const char *path, char *target, size_t size)
{
    return sys_call(SYS_readlinkat, AT_FDCWD, (long)path, (long)target, (long)size, 0, 0);
}

static inline int sys_chdir(const char *path)
{
    return (int)sys_call(SYS_chdir, (long)path, 0, 0, 0, 0, 0);
}

static inline int sys_chroot(const char *path)
{
    return (int)sys_call(SYS_chroot, (long)path, 0, 0, 0, 0, 0);
}

static inline int sys_mount(const char *source, const char *target, const char *type,
                            unsigned long flags, const char *data)
{
    return (int)sys_call(SYS_mount, (long)source, (long)target, (long)type, (long)flags, (long)data,
                         0);
}

static inline int sys_unmount(const char *path, int flags)
{
    return (int)sys_call(SYS_umount2, (long)path, flags, 0, 0, 0, 0);
}

/* For sys_reconfigure_mount(); close-on-exec. */
static inline int sys_pick_mount(const char *path)
{
    const int cloexec = 1; /* FSPICK_CLOEXEC, of <linux/mount.h> */

    return (int)sys_call(SYS_fspick, AT_FDCWD, (long)path, cloexec, 0, 0, 0);
}

static inline int sys_reconfigure_mount(int picked)
{
    const int reconfigure = 7; /* FSCONFIG_CMD_RECONFIGURE */

    return (int)sys_call(SYS_fsconfig, picked, reconfigure, 0, 0, 0, 0);
}

static inline void sys_sync(void)
{
    sys_call(SYS_sync, 0, 0, 0, 0, 0, 0);
}

static inline int sys_load_module(int fd)
{
    return (int)sys_call(SYS_finit_module, fd, (long)"", 0, 0, 0, 0);
}

static inline int sys_set_hostname(const char *name, size_t length)
{
    return (int)sys_call(SYS_sethostname, (long)name, (long)length, 0, 0, 0, 0);
}

static inline int sys_socket(int family, int type)
{
    return (int)sys_call(SYS_socket, family, type, 0, 0, 0, 0);
}

static inline int sys_fork(void)
{
    return (int)sys_call(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
}

static inline int sys_execute(const char *path, const char **argv, const char **env)
{
    return (int)sys_call(SYS_execve, (long)path, (long)argv, (long)env, 0, 0, 0);
}

static inline void sys_exit(int status)
{
    sys_call(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

/* Reaps any child that has ended; with WNOHANG 0 if none has. */
static inline int sys_wait(int *ret_status, int flags)
{
    return (int)sys_call(SYS_wait4, -1, (long)ret_status, flags, 0, 0, 0);
}

static inline int sys_kill(int pid, int signal)
{
    return (int)sys_call(SYS_kill, pid, signal, 0, 0, 0, 0);
}

/* Signal N is bit N - 1 of `mask`. */
static inline int sys_mask_signals(int how, uint64_t mask)
{
    return (int)sys_call(SYS_rt_sigprocmask, how, (long)&mask, 0, sizeof(mask), 0, 0);
}

static inline int sys_signal_fd(uint64_t mask)
{
    return (int)sys_call(SYS_signalfd4, -1, (long)&mask, sizeof(mask), O_CLOEXEC | O_NONBLOCK, 0,
                         0);
}

static inline int sys_set_session(void)
{
    return (int)sys_call(SYS_setsid, 0, 0, 0, 0, 0, 0);
}

static inline int sys_set_groups(size_t count, const uint32_t *groups)
{
    return (int)sys_call(SYS_setgroups, (long)count, (long)groups, 0, 0, 0, 0);
}

/* Of the calling process: RLIMIT_NOFILE and others. */
static inline int sys_set_limit(int resource, uint64_t soft, uint64_t hard)
{
    const uint64_t limit[2] = { soft, hard };

    return (int)sys_call(SYS_prlimit64, 0, resource, (long)limit, 0, 0, 0);
}

static inline int sys_set_gid(uint32_t gid)
{
    return (int)sys_call(SYS_setgid, gid, 0, 0, 0, 0, 0);
}

static inline int sys_set_uid(uint32_t uid)
{
    return (int)sys_call(SYS_setuid, uid, 0, 0, 0, 0, 0);
}

/* Time since the kernel started. */
static inline long sys_clock_ns(void)
{
    struct timespec now = { 0 };

    sys_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0, 0);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline long sys_clock_ms(void)
{
    return sys_clock_ns() / 1000000;
}

static inline int sys_set_clock(const struct timespec *time)
{
    return (int)sys_call(SYS_clock_settime, CLOCK_REALTIME, (long)time, 0, 0, 0, 0);
}

static inline void sys_sleep_ms(long ms)
{
    const struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

    sys_call(SYS_nanosleep, (long)&time, 0, 0, 0, 0, 0);
}

static inline void sys_power_off(void)
{
    sys_call(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0, 0,
             0);
}

#endif
