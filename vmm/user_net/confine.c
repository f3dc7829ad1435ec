/* SPDX-License-Identifier: MIT */
#include "vmm/user_net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/capabilities.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/seccomp.h"

#define NOBODY 65534

/*
 * A connection has two buffers of 144 KiB in libslirp. So the descriptors end first, which costs
 * the guest a connection; without memory GLib ends the process.
 */
#define DESCRIPTORS 1024
#define MEMORY      (384 * MIB)

/* struct landlock_ruleset_attr as of ABI 6; older kernels take its beginning. */
struct confine_ruleset {
    uint64_t files, network, scopes;
};

#define ALL_FILES        ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* of ABI 1 */
#define NETWORK_BIND_TCP (1u << 0)
#define SCOPE_ABSTRACT   (1u << 0)
#define SCOPE_SIGNAL     (1u << 1)
#define ABI_REFER        2
#define ABI_TRUNCATE     3
#define ABI_NETWORK      4
#define ABI_IOCTL        5
#define ABI_SCOPES       6
#define ACCESS_REFER     (1u << 13)
#define ACCESS_TRUNCATE  (1u << 14)
#define ACCESS_IOCTL_DEV (1u << 15)

/* Where /etc/resolv.conf is, or leads to. Directories, as the file is replaced by a new one. */
static const char *const confine_readable[] = {
    "/etc", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/connman",
};

static int confine_allow_reading(int rules)
{
    for (unsigned i = 0; i < ARRAY_SIZE(confine_readable); i++) {
        cleanup_close int fd = open(confine_readable[i], O_PATH | O_CLOEXEC);
        struct landlock_path_beneath_attr rule = { .parent_fd = fd,
                                                   .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE };

        if (fd >= 0 && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
            return -errno;
    }
    return 0;
}

static int confine_files(void)
{
    struct confine_ruleset handled = { ALL_FILES, NETWORK_BIND_TCP, SCOPE_ABSTRACT | SCOPE_SIGNAL };
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    cleanup_close int rules = -1;
    size_t size = sizeof(handled);
    int error;

    if (abi < 0)
        return -errno;
    if (abi >= ABI_REFER)
        handled.files |= ACCESS_REFER;
    if (abi >= ABI_TRUNCATE)
        handled.files |= ACCESS_TRUNCATE;
    if (abi >= ABI_IOCTL)
        handled.files |= ACCESS_IOCTL_DEV;
    if (abi < ABI_SCOPES)
        size = offsetof(struct confine_ruleset, scopes);
    if (abi < ABI_NETWORK)
        size = offsetof(struct confine_ruleset, network);
    rules = (int)syscall(SYS_landlock_create_ruleset, &handled, size, 0);
    if (rules < 0)
        return -errno;
    error = confine_allow_reading(rules);
    if (error)
        return error;
    return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}

/* Root would still own most files: it becomes nobody, who still may ping. */
static int confine_user(void)
{
    int death = 0;

    if (geteuid() != 0)
        return 0;
    prctl(PR_GET_PDEATHSIG, &death);
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return -errno;
    return prctl(PR_SET_PDEATHSIG, death) < 0 ? -errno : 0; /* a change of user clears it */
}

/*
 * Standard error may be a terminal that was opened to read, too. The kernel stops no process of
 * another session, as this is, that reads the user's keys.
 */
static int confine_terminal(void)
{
    cleanup_close int fd = -1;

    if (!isatty(STDERR_FILENO))
        return 0;
    fd = open("/proc/self/fd/2", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    return fd < 0 || dup2(fd, STDERR_FILENO) < 0 ? -errno : 0;
}

static int confine_limit(int resource, rlim_t most)
{
    struct rlimit limit;

    if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
        return -errno;
    limit.rlim_cur = limit.rlim_max = limit.rlim_max < most ? limit.rlim_max : most;
    return setrlimit((__rlimit_resource_t)resource, &limit) < 0 ? -errno : 0;
}

static const struct seccomp_rule confine_table[] = {
    /* The loop, minivmm's socket and the log. */
    { SYS_ppoll, .reason = "the loop; waiting for a full stderr" },
#ifdef SYS_poll
    { SYS_poll, .reason = "the same" },
#endif
    { SYS_read, .reason = "the loop's eventfd; the name servers' file" },
    { SYS_write, .reason = "the loop's eventfd; log messages" },
    { SYS_ioctl, .argument = { 1, UINT32_MAX, TCGETS }, .reason = "isatty() of stderr" },
    { SYS_clock_gettime, .reason = "clock_gettime(), if the vDSO cannot" },
    { SYS_futex, .reason = "GLib's locks" },

    /* The guest's connections, datagrams and pings. No bind(), no listen(): the ports are open. */
    { SYS_socket, .argument = { 0, UINT32_MAX, AF_INET }, .reason = "a connection over IPv4" },
    { SYS_socket, .argument = { 0, UINT32_MAX, AF_INET6 }, .reason = "a connection over IPv6" },
    { SYS_connect, .reason = "TCP, pings" },
    { SYS_accept, .reason = "a connection to a forwarded port" },
    { SYS_accept4, .reason = "the same, with some libcs" },
    { SYS_sendto, .reason = "data; minivmm's frames; a question for a route" },
    { SYS_recvfrom, .reason = "the same" },
    { SYS_sendmsg, .reason = "the same, of other versions of libslirp" },
    { SYS_recvmsg, .reason = "errors of UDP sockets" },
    { SYS_shutdown, .reason = "the end of one direction" },
    { SYS_getsockname, .reason = "a forwarded connection's addresses" },
    { SYS_getpeername, .reason = "whether a connection is established" },
    { SYS_setsockopt, .reason = "TCP_NODELAY, SO_OOBINLINE, IP_TTL, ..." },
    { SYS_getsockopt, .reason = "SO_ERROR, SO_TYPE" },
    { SYS_ioctl, .argument = { 1, UINT32_MAX, FIONREAD }, .reason = "the size of a datagram" },
    { SYS_ioctl, .argument = { 1, UINT32_MAX, FIONBIO }, .reason = "non-blocking sockets" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_GETFL }, .reason = "the same" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_SETFL }, .reason = "the same" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_GETFD }, .reason = "close-on-exec" },
    { SYS_fcntl, .argument = { 1, UINT32_MAX, F_SETFD }, .reason = "the same" },
    { SYS_close, .reason = "a connection's end" },

    /* /etc/resolv.conf, which libslirp reads again when it has changed. */
    { SYS_openat, .argument = { 2, O_ACCMODE | O_CREAT, O_RDONLY }, .reason = "fopen()" },
    { SYS_newfstatat, .reason = "its time" },
    { SYS_fstat, .reason = "fopen()'s buffer" },
    { SYS_lseek, .reason = "fclose()" },
#ifdef SYS_open
    { SYS_open, .argument = { 1, O_ACCMODE | O_CREAT, O_RDONLY }, .reason = "some libcs' fopen()" },
    { SYS_stat, .reason = "some libcs' stat()" },
#endif

    /* The allocator; executable memory is denied. */
    { SYS_mmap, .argument = { 2, PROT_EXEC, 0 }, .reason = "malloc()" },
    { SYS_mprotect, .argument = { 2, PROT_EXEC, 0 }, .reason = "malloc()" },
    { SYS_brk, .reason = "malloc()" },
    { SYS_mremap, .reason = "realloc()" },
    { SYS_munmap, .reason = "free()" },
    { SYS_madvise, .reason = "free()" },
    { SYS_getrandom, .reason = "malloc()'s and GLib's seeds" },

    /* Signals, and the end of the process. */
    { SYS_rt_sigreturn, .reason = "return from a signal handler" },
    { SYS_restart_syscall, .reason = "poll() after SIGSTOP and SIGCONT" },
    { SYS_rt_sigprocmask, .reason = "abort()" },
    { SYS_rt_sigaction, .reason = "abort()" },
    { SYS_getpid, .reason = "abort()" },
    { SYS_gettid, .reason = "abort()" },
    { SYS_tgkill, .own_process = true, .reason = "abort()" },
    { SYS_exit_group, .reason = "the end" },
};

static const struct seccomp_list confine_rules = { confine_table, ARRAY_SIZE(confine_table) };

void confine_network(void)
{
    const struct {
        const char *name;
        int error;
    } layers[] = {
        { "a terminal that it cannot read", confine_terminal() },
        { "another user", confine_user() },
        { "capabilities", capabilities_keep(0) },
        { "no new privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0 },
        { "PR_SET_DUMPABLE", prctl(PR_SET_DUMPABLE, 0) < 0 ? -errno : 0 },
        { "RLIMIT_CORE", confine_limit(RLIMIT_CORE, 0) },
        { "RLIMIT_NOFILE", confine_limit(RLIMIT_NOFILE, DESCRIPTORS) },
        { "RLIMIT_AS", CONFINE ? confine_limit(RLIMIT_AS, MEMORY) : 0 },
        { "Landlock", CONFINE ? confine_files() : 0 },
        { "seccomp", CONFINE ? seccomp_restrict(&confine_rules, 1, SECCOMP_FAIL) : 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(layers); i++)
        if (layers[i].error)
            log_debug("minivmm-net not confined by %s: %s", layers[i].name,
                      strerror(-layers[i].error));
}
