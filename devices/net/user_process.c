/* SPDX-License-Identifier: MIT */
#include "devices/net/user_process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/net/slirp.h"
#include "settings.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"

#define PROGRAM   "minivmm-net"
#define BUFFER    (1 << 20) /* bytes asked for each direction; the kernel may give less */
#define FINISH_MS 200

enum { CHILD_SOCKET = 3, CHILD_LOG, CHILD_DESCRIPTORS };

/*
 * In a directory where others may make files, such as /tmp, the program could be theirs. It is
 * trusted if whoever could change it could change minivmm, or is the user or root.
 */
static bool user_process_trusts(uid_t owner)
{
    struct stat own;

    return owner == 0 || owner == geteuid() ||
           (stat("/proc/self/exe", &own) == 0 && owner == own.st_uid);
}

static int user_process_find(char path[PATH_MAX])
{
    struct stat program, name; /* a link may lead elsewhere, once it has been checked */
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - sizeof(PROGRAM));
    char *slash;

    if (length < 0)
        return log_error(errno, "no user-mode network: cannot find " PROGRAM ": /proc/self/exe");
    path[length] = '\0';
    slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, PROGRAM);
    if (access(path, X_OK) < 0 || stat(path, &program) < 0 || lstat(path, &name) < 0)
        return log_refuse(
            errno,
            "no user-mode network: %s: %s (it belongs beside minivmm, and is built if "
            "libslirp is installed)",
            path, strerror(errno));
    if (!user_process_trusts(program.st_uid) || !user_process_trusts(name.st_uid))
        return log_refuse(EPERM,
                          "no user-mode network: %s belongs to neither root, nor you, nor "
                          "minivmm's owner: install both where only one of them can write",
                          path);
    return 0;
}

/* The value of its option --socket. NULL: out of memory. */
static char *user_process_words(const struct slirp_options *options)
{
    char *words = NULL, addr[INET_ADDRSTRLEN];
    size_t size;
    FILE *stream = open_memstream(&words, &size);

    if (!stream)
        return NULL;
    fprintf(stream, "%d,stderr=%d,log-level=%s", CHILD_SOCKET, CHILD_LOG, log_level_name());
    if (options->host_loopback)
        fputs(",host-loopback", stream);
    for (const struct slirp_forward *f = options->forwards; f; f = f->next)
        fprintf(stream, ",hostfwd=%s:%s:%u-:%u", f->udp ? "udp" : "tcp",
                inet_ntop(AF_INET, &f->host_addr, addr, sizeof(addr)), f->host_port, f->guest_port);
    if (fclose(stream) == 0)
        return words;
    free(words);
    return NULL;
}

/* What the new process uses until execv(). */
struct user_launch {
    char path[PATH_MAX];
    char *words;
    int socket;
    bool waits; /* for the guest's first frame */
    _Alignas(16) char stack[16 * KIB];
};

static void user_launch_free(struct user_launch *launch)
{
    if (launch)
        free(launch->words);
    free(launch);
}

/* Leaves the frame to be read. Ends the process when minivmm closes its end. */
static void user_process_await_frame(void)
{
    ssize_t size;
    char byte;

    do
        size = recv(CHILD_SOCKET, &byte, 1, MSG_PEEK);
    while (size < 0 && errno == EINTR);
    if (size <= 0)
        _exit(EXIT_SUCCESS);
}

/*
 * The new process gets three descriptors: /dev/null, its socket, and our standard error as another
 * number, so that the dynamic linker says nothing there if libslirp is missing. A session of its
 * own keeps the terminal's Ctrl-C from it. It calls the kernel only.
 */
static int user_process_exec(void *arg)
{
    struct user_launch *launch = arg;
    char *argv[] = { (char *)PROGRAM, (char *)"--socket", launch->words, NULL };
    int null = open("/dev/null", O_RDWR);
    int log = fcntl(STDERR_FILENO, F_DUPFD, CHILD_DESCRIPTORS);
    int socket = fcntl(launch->socket, F_DUPFD, CHILD_DESCRIPTORS);
    sigset_t none;

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (dup2(null, fd) < 0)
            _exit(126); /* it must not get ours */
    dup2(socket, CHILD_SOCKET);
    dup2(log, CHILD_LOG);
    open_close_range(CHILD_DESCRIPTORS, ~0u);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, PROGRAM);
    if (launch->waits)
        user_process_await_frame();
    execv(launch->path, argv);
    _exit(126);
}

/*
 * A process that waits has a memory of its own: minivmm, once the guest has taken it over, must not
 * write to that of a process without a sandbox. One that does not shares it until execv(), which
 * saves a start 0.1 ms for page tables and copies of pages. Sanitizers do not know of two processes
 * in one memory.
 */
static int user_process_flags(const struct user_launch *launch)
{
    return CLONE_PIDFD | SIGCHLD | (CONFINE && !launch->waits ? CLONE_VM : 0);
}

int user_process_start(struct user_process *ret, const struct slirp_options *options)
{
    struct user_launch *launch = malloc(sizeof(*launch));
    cleanup_close int theirs = -1, ours = -1;
    const int size = BUFFER;
    int pair[2], error;

    if (!launch)
        return log_error(ENOMEM, "user-mode network");
    ret->launch = launch;
    launch->words = user_process_words(options);
    error = user_process_find(launch->path);
    if (error)
        return error;
    if (!launch->words || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return log_error(errno, "user-mode network");
    ours = pair[0];
    theirs = pair[1];
    setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));

    launch->socket = theirs;
    launch->waits = !options->forwards; /* nothing else comes from outside before the guest's */
    ret->pid = clone(user_process_exec, launch->stack + sizeof(launch->stack),
                     user_process_flags(launch), launch, &ret->pidfd);
    if (ret->pid < 0) {
        ret->pid = 0;
        return log_error(errno, "user-mode network: start %s", launch->path);
    }
    return take_fd(&ours);
}

void user_process_kill(struct user_process *process)
{
    if (process->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
}

int user_process_reap(struct user_process *process, char *text, size_t size)
{
    siginfo_t info = { .si_pid = 0 };
    int status = -1;

    if (waitid(P_PID, (id_t)process->pid, &info, WEXITED) < 0 || info.si_code == CLD_EXITED) {
        status = info.si_status;
        snprintf(text, size, "ended with status %d", status);
    } else {
        snprintf(text, size, "was killed by signal %d (%s)", info.si_status,
                 strsignal(info.si_status));
    }
    close(process->pidfd);
    user_launch_free(process->launch);
    *process = (struct user_process){ .pidfd = -1 };
    return status;
}

void user_process_finish(struct user_process *process)
{
    struct pollfd ended = { .fd = process->pidfd, .events = POLLIN };
    char text[80];

    if (process->pid == 0) {
        user_launch_free(process->launch);
        return;
    }
    if (poll(&ended, 1, FINISH_MS) != 1)
        user_process_kill(process);
    user_process_reap(process, text, sizeof(text));
}
