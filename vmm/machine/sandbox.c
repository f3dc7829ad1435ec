/* SPDX-License-Identifier: MIT */
#include "vmm/machine/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <linux/vhost.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "devices/fs/confine.h"
#include "devices/fs/share.h"
#include "settings.h"
#include "vmm/board/board.h"
#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/landlock.h"
#include "vmm/core/log.h"
#include "vmm/core/memory_file.h"
#include "vmm/core/page_map.h"
#include "vmm/core/seccomp.h"
#include "vmm/kvm/arch.h"
#include "vmm/kvm/confine.h"

/*
 * A filter is no wall between threads, which share their memory. So what counts is what all of them
 * together may do: each list is added only to a machine that needs it. The narrower filters of
 * vCPUs and file servers stop a thread that was tricked into a system call.
 *
 * Descriptors that a client passes to a running machine will need recvmsg() here, and no open().
 */

/* Any machine. */
static const struct seccomp_rule sandbox_table[] = {
    /* Loops, consoles and the log. */
    { SYS_ppoll, .reason = "the loops; waiting for a full stderr" },
#ifdef SYS_poll
    { SYS_poll, .reason = "the same" },
#endif
    { SYS_read, .reason = "eventfds, timers, signals; input of consoles" },
    { SYS_write, .reason = "eventfds; output of consoles; log messages" },
    { SYS_pwritev2, .reason = "output of consoles without waiting" },
    { SYS_futex, .reason = "mutexes and conditions" },
    { SYS_clock_gettime, .reason = "clock_gettime(), if the vDSO cannot" },
    { SYS_timerfd_settime, .reason = "timers of chips and of the main loop" },
    { SYS_getrandom, .reason = "the entropy device; seeds for the kernel" },
    { SYS_shutdown, .reason = "the end of a port's output" },
    { SYS_close, .reason = "the end of devices" },
    SECCOMP_IOCTL(TCGETS, "is stderr a terminal?"),
    SECCOMP_IOCTL(TCSETS, "a terminal's raw mode, and back"),
    SECCOMP_IOCTL(TIOCGPGRP, "is the terminal another job's?"),
    SECCOMP_IOCTL(TIOCGWINSZ, "its size"),
#ifdef SYS_getpgrp
    { SYS_getpgrp, .reason = "is the terminal another job's?" },
#else
    { SYS_getpgid, .reason = "is the terminal another job's?" },
#endif

    /* A start and a reset: the images, and what KVM does with them. */
    { SYS_pread64, .reason = "images, at each start" },
    { SYS_fstat, .reason = "the same" },
#ifdef SYS_newfstatat
    { SYS_newfstatat, .argument = { 3, AT_EMPTY_PATH, AT_EMPTY_PATH }, .reason = "the same" },
#endif

    /* Threads: vCPUs, loops, writers of consoles, workers for a pause or a reset. */
    { SYS_clone, .argument = { 0, CLONE_THREAD, CLONE_THREAD }, .reason = "pthread_create()" },
    { SYS_clone3, .error = ENOSYS, .reason = "its flags cannot be checked: libc uses clone()" },
    { SYS_set_robust_list, .reason = "the start of a thread" },
    { SYS_rseq, .reason = "the same" },
    SECCOMP_PRCTL(PR_SET_NAME, "the same"),
    { SYS_seccomp, .argument = { 0, UINT32_MAX, SECCOMP_SET_MODE_FILTER },
      .reason = "a narrower filter for a thread" },
    { SYS_exit, .reason = "the end of a thread" },

    /* Memory; executable memory is denied. */
    { SYS_mmap, .argument = { 2, PROT_EXEC, 0 }, .reason = "malloc(); stacks; a vCPU's state" },
    { SYS_mprotect, .argument = { 2, PROT_EXEC, 0 }, .reason = "a stack's guard page" },
    { SYS_brk, .reason = "malloc()" },
    { SYS_mremap, .reason = "realloc()" },
    { SYS_munmap, .reason = "free(), stacks" },
    { SYS_madvise,
      .reason = "RAM at a reset, and what the guest gives back; the stack of an ending thread" },

    /* Signals, and the end of the process. */
    { SYS_rt_sigreturn, .reason = "return from a signal handler" },
    { SYS_restart_syscall, .reason = "poll() after SIGSTOP and SIGCONT" },
    { SYS_rt_sigprocmask, .reason = "the start of a thread; abort()" },
    { SYS_rt_sigaction, .reason = "abort()" },
    { SYS_getpid, .reason = "pthread_kill(), abort()" },
    { SYS_gettid, .reason = "the same" },
    { SYS_tgkill, .own_process = true, .reason = "the same" },
    { SYS_exit_group, .reason = "the end" },
};

/* Disks; the ring is restricted by itself (devices/block/raw_uring.c). */
static const struct seccomp_rule sandbox_disk_table[] = {
    { SYS_io_uring_enter, .reason = "requests of disks" },
    { SYS_preadv, .reason = "the same without io_uring" },
    { SYS_pwritev2, .reason = "the same" },
    { SYS_pwrite64, .reason = "zeros, where the host cannot zero a range" },
    { SYS_fallocate, .reason = "discard, write zeroes" },
    { SYS_fdatasync, .reason = "flush" },
};

static const struct seccomp_rule sandbox_tap_table[] = {
    { SYS_readv, .reason = "frames of a tap" },
    { SYS_writev, .reason = "the same" },
    SECCOMP_IOCTL(TUNSETOFFLOAD, "features that the driver accepts"),
};

static const struct seccomp_rule sandbox_user_net_table[] = {
    { SYS_sendmsg, .reason = "frames to minivmm-net" },
    { SYS_recvmsg, .reason = "frames from it" },
    { SYS_sendto, .reason = "a pause of it" },
    { SYS_recvfrom, .reason = "whether it is ready" },
    { SYS_waitid, .reason = "its end" },
    { SYS_pidfd_send_signal, .reason = "the same" }, /* no other pidfd can be made */
};

static const struct seccomp_rule sandbox_vhost_table[] = {
    SECCOMP_IOCTL(TUNSETOFFLOAD, "features that the driver accepts"),
    SECCOMP_IOCTL(VHOST_SET_OWNER, "a driver's start"),
    SECCOMP_IOCTL(VHOST_SET_MEM_TABLE, "the same"),
    SECCOMP_IOCTL(VHOST_SET_FEATURES, "the same"),
    SECCOMP_IOCTL(VHOST_SET_VRING_NUM, "a queue's start"),
    SECCOMP_IOCTL(VHOST_SET_VRING_BASE, "the same"),
    SECCOMP_IOCTL(VHOST_SET_VRING_ADDR, "the same"),
    SECCOMP_IOCTL(VHOST_SET_VRING_KICK, "the same"),
    SECCOMP_IOCTL(VHOST_SET_VRING_CALL, "the same"),
    SECCOMP_IOCTL(VHOST_SET_VRING_ERR, "the same"),
    SECCOMP_IOCTL(VHOST_NET_SET_BACKEND, "a queue's start, its end"),
    SECCOMP_IOCTL(VHOST_GET_VRING_BASE, "a queue's end"),
};

/* --dump-acpi and --dump-dtb write at each reset: what lies in that directory can be replaced. */
static const struct seccomp_rule sandbox_dump_table[] = {
    { SYS_openat, .reason = "the guest's tables" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_SETFL }, .reason = "the same" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_GETFL }, .reason = "the same" },
};

static const struct seccomp_rule sandbox_control_table[] = {
    { SYS_accept4, .reason = "a client" },
    { SYS_getsockopt, .reason = "its user" },
    { SYS_recvmsg, .reason = "its requests, with descriptors" },
    { SYS_sendto, .reason = "answers" },
};

/* A snapshot; its files are open already, or come from a client of the control socket. */
static const struct seccomp_rule sandbox_save_table[] = {
    SECCOMP_IOCTL(PAGEMAP_SCAN, "which pages a snapshot needs"),
    { SYS_lseek, .reason = "the same, of RAM that came from one" },
    { SYS_pwrite64, .reason = "a snapshot's files" },
    { SYS_pwritev2, .reason = "the same" },
    SECCOMP_IOCTL(FICLONE, "a snapshot's disks"),
    { SYS_ftruncate, .reason = "the same" },
    { SYS_fallocate, .reason = "the same" },
    { SYS_process_madvise, .argument = { 0, UINT32_MAX, MEMORY_OF_SELF }, .reason = "a rewind" },
};

/* A server of a share gives up more when its thread starts. */
static const struct seccomp_rule sandbox_share_table[] = {
    SECCOMP_PRCTL(PR_SET_NO_NEW_PRIVS, "a file server's own restrictions"),
    { SYS_capget, .reason = "the same" },
    { SYS_capset, .reason = "the same" },
    { SYS_landlock_create_ruleset, .reason = "the same" },
    { SYS_landlock_add_rule, .reason = "the same" },
    { SYS_landlock_restrict_self, .reason = "the same" },
};

#define LIST(table)              \
    {                            \
        table, ARRAY_SIZE(table) \
    }
#define MAX_LISTS 20

/* `vhost`: whether the host's kernel serves its queues. */
static bool sandbox_has_nic(const struct config *config, enum net_kind kind, bool vhost)
{
    const struct net_config *net = config->nets;

    while (net && (net->kind != kind || net->vhost != vhost))
        net = net->next;
    return net;
}

static bool sandbox_has_writable_share(const struct board *board)
{
    unsigned i = 0;

    while (i < board->share_count && !share_writable(board->shares[i]))
        i++;
    return i < board->share_count;
}

static int sandbox_load_filter(const struct board *board)
{
    /* vcpu_rules first: KVM_RUN is the hottest call. */
    struct seccomp_list lists[MAX_LISTS] = { vcpu_rules, arch_vcpu_rules, kvm_rules, arch_rules,
                                             LIST(sandbox_table) };
    unsigned count = 5;

    if (board->config->disks)
        lists[count++] = (struct seccomp_list)LIST(sandbox_disk_table);
    if (board->config->shares) {
        lists[count++] = (struct seccomp_list)LIST(sandbox_share_table);
        lists[count++] = confine_rules;
    }
    if (board->config->control)
        lists[count++] = (struct seccomp_list)LIST(sandbox_control_table);
    if (board->config->saves) {
        lists[count++] = (struct seccomp_list)LIST(sandbox_save_table);
        lists[count++] = arch_save_rules;
    }
    if (board->config->restored)
        lists[count++] = arch_load_rules;
    if (sandbox_has_writable_share(board))
        lists[count++] = confine_write_rules;
    if (board->config->dump_acpi || board->config->dump_dtb)
        lists[count++] = (struct seccomp_list)LIST(sandbox_dump_table);
    if (sandbox_has_nic(board->config, NET_TAP, false))
        lists[count++] = (struct seccomp_list)LIST(sandbox_tap_table);
    if (sandbox_has_nic(board->config, NET_TAP, true))
        lists[count++] = (struct seccomp_list)LIST(sandbox_vhost_table);
    if (sandbox_has_nic(board->config, NET_USER, false))
        lists[count++] = (struct seccomp_list)LIST(sandbox_user_net_table);
    return seccomp_restrict_process(lists, count, SECCOMP_TRAP);
}

/* The directory for --dump-acpi or --dump-dtb. -1: none. */
static int sandbox_open_dump(const struct config *config)
{
    cleanup_free char *path = NULL;

    if (config->dump_acpi)
        return open(config->dump_acpi, O_PATH | O_DIRECTORY | O_CLOEXEC);
    path = config->dump_dtb ? strdup(config->dump_dtb) : NULL;
    return path ? open(dirname(path), O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

static int sandbox_restrict_files(const struct board *board)
{
    struct landlock_tree trees[HARDWARE_MAX_VIRTIO + 1];
    cleanup_close int dump = sandbox_open_dump(board->config);
    unsigned count = 0;

    for (; count < board->share_count; count++)
        trees[count] = share_tree(board->shares[count]);
    if (dump >= 0)
        trees[count++] = (struct landlock_tree){ dump, true };
    return landlock_restrict(trees, count);
}

/* Namespaces of an ordinary user need one of users, in which it has all capabilities. */
static bool sandbox_has_own_users(const struct board *board)
{
    return board->config->sandbox == SANDBOX_STRICT && geteuid() != 0;
}

static int sandbox_drop_capabilities(const struct board *board)
{
    /* minivmm-net is nobody's if minivmm is root's, and must not outlive it. */
    uint32_t keep = sandbox_has_nic(board->config, NET_USER, false) ? 1u << CAP_KILL : 0;

    for (unsigned i = 0; i < board->share_count; i++)
        keep |= confine_capabilities(share_tree(board->shares[i]).writable);
    return capabilities_keep(sandbox_has_own_users(board) ? 0 : keep);
}

/* Nobody traces the process, and nothing of the guest's memory gets into a file. */
static int sandbox_hide_memory(const struct board *board)
{
    const struct rlimit none = { 0, 0 };

    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : 0;
}

static int sandbox_stop_privileges(const struct board *board)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int sandbox_write_file(const char *path, const char *text)
{
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* A number keeps its meaning in the new namespace, or a file server would take it for nobody's. */
static int sandbox_map_user(uid_t uid, gid_t gid)
{
    char map[64];
    int error = sandbox_write_file("/proc/self/setgroups", "deny");

    snprintf(map, sizeof(map), "%u %u 1", uid, uid);
    if (!error)
        error = sandbox_write_file("/proc/self/uid_map", map);
    snprintf(map, sizeof(map), "%u %u 1", gid, gid);
    return error ? error : sandbox_write_file("/proc/self/gid_map", map);
}

/* A root directory in which there is only /proc/self/fd: a file server names open files by it. */
static int sandbox_empty_root(void)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || chdir("/proc/self/fd") < 0 ||
        mount("empty", "/proc", "tmpfs", flags, "mode=500") < 0 || mkdir("/proc/proc", 0500) < 0 ||
        mkdir("/proc/proc/self", 0500) < 0 || mkdir("/proc/proc/self/fd", 0500) < 0 ||
        mount(".", "/proc/proc/self/fd", NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0 ||
        chdir("/proc") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
}

/*
 * Namespaces without processes, networks and files. Root keeps its own users: a file server needs
 * its rights to the host's files.
 */
static int sandbox_unshare(const struct board *board)
{
    int flags = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS, error = 0;
    bool own_users = sandbox_has_own_users(board);
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (board->config->sandbox != SANDBOX_STRICT)
        return 0;
    if (unshare(flags | (own_users ? CLONE_NEWUSER : 0)) < 0)
        return -errno;
    if (own_users)
        error = sandbox_map_user(uid, gid);
    return error ? error : sandbox_empty_root();
}

/* Not pointers: each would need a relocation at every start. */
static const char sandbox_call_names[][28] = {
#include "call_names.h"
};

static void sandbox_say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return; /* nowhere to report this */
}

/* In the thread that was denied; SA_RESETHAND has restored the default action. */
static void sandbox_on_denied(int signal, siginfo_t *info, void *context)
{
    unsigned call = (unsigned)info->si_syscall;
    bool known = call < ARRAY_SIZE(sandbox_call_names) && *sandbox_call_names[call];

    terminal_restore_all();
    sandbox_say("minivmm: the sandbox denied the system call ");
    sandbox_say(known ? sandbox_call_names[call] : "(unknown)");
    sandbox_say(": please report it (--sandbox=off runs without)\r\n");
    raise(signal);
}

static int sandbox_catch_denied(const struct board *board)
{
    struct sigaction action = { .sa_sigaction = sandbox_on_denied,
                                .sa_flags = SA_RESETHAND | SA_SIGINFO };

    return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

struct sandbox_layer {
    const char *name;
    int (*enter)(const struct board *board);
};

/* In this order. */
static const struct sandbox_layer sandbox_first[] = {
    { "namespaces", sandbox_unshare },        { "no new privileges", sandbox_stop_privileges },
    { "hidden memory", sandbox_hide_memory }, { "fewer capabilities", sandbox_drop_capabilities },
    { "Landlock", sandbox_restrict_files },   { "a handler for SIGSYS", sandbox_catch_denied },
};

static const struct sandbox_layer sandbox_calls = { "seccomp", sandbox_load_filter };

/* What runs out for a moment, perhaps because somebody uses it up, is not what the host lacks. */
static bool sandbox_is_scarcity(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EAGAIN;
}

static int sandbox_add(struct sandbox *sandbox, const struct board *board,
                       const struct sandbox_layer *layer)
{
    size_t used = strlen(sandbox->missing);
    int error = layer->enter(board);

    if (!error)
        return 0;
    if (sandbox_is_scarcity(error))
        return log_error(-error, "--sandbox: %s", layer->name);
    if (board->config->sandbox != SANDBOX_AUTO)
        return log_refuse(-error, "--sandbox: this host does not provide %s (%s)", layer->name,
                          strerror(-error));
    snprintf(sandbox->missing + used, sizeof(sandbox->missing) - used, "%s%s", used ? ", " : "",
             layer->name);
    return 0;
}

static bool sandbox_is_off(const struct board *board)
{
    return !CONFINE || board->config->sandbox == SANDBOX_OFF;
}

int sandbox_enter(struct sandbox *sandbox, const struct board *board)
{
    int error = 0;

    if (sandbox_is_off(board))
        return 0;
#ifdef M_ARENA_MAX
    mallopt(M_ARENA_MAX, 1); /* else a new thread's first malloc() opens a file */
#endif
    for (unsigned i = 0; i < ARRAY_SIZE(sandbox_first) && !error; i++)
        error = sandbox_add(sandbox, board, &sandbox_first[i]);
    return error;
}

int sandbox_restrict_calls(struct sandbox *sandbox, const struct board *board)
{
    int error;

    if (sandbox_is_off(board))
        return 0;
    error = sandbox_add(sandbox, board, &sandbox_calls);
    sandbox->calls = !strstr(sandbox->missing, sandbox_calls.name);
    if (*sandbox->missing)
        log_warn("the machine is confined without %s, which this host does not provide "
                 "(--sandbox=on would refuse, --sandbox=off is silent)",
                 sandbox->missing);
    return error;
}
