/* SPDX-License-Identifier: MIT */
#include "vmm/control/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"
#include "vmm/core/seccomp.h"

#define BACKLOG   16
#define CONNECT_S 5 /* how long a client waits for a place in a machine's backlog */

static int socket_address(struct sockaddr_un *ret, const char *path)
{
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(ret->sun_path))
        return log_refuse(ENAMETOOLONG, "%s: a socket's path has at most %zu bytes", path,
                          sizeof(ret->sun_path) - 1);
    strcpy(ret->sun_path, path);
    return 0;
}

/* Connects, without waiting for a server whose backlog is full: -EAGAIN. */
static int socket_try(int fd, const struct sockaddr_un *address)
{
    return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

int control_connect(const char *path)
{
    const struct timeval patience = { .tv_sec = CONNECT_S };
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address;
    int error = socket_address(&address, path);

    if (error)
        return error;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
        return log_error(errno, "connect to %s", path);
    error = socket_try(fd, &address);
    if (error == -EAGAIN)
        return log_refuse(EAGAIN, "connect to %s: the machine does not answer", path);
    return error ? log_error(-error, "connect to %s", path) : take_fd(&fd);
}

/* Removes a socket that nobody serves any more. */
static int socket_remove_stale(const char *path, const struct sockaddr_un *address)
{
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;
    int error;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : log_error(errno, "--control %s", path);
    if (!S_ISSOCK(st.st_mode))
        return log_refuse(EEXIST, "--control %s: there is a file that is no socket", path);
    if (fd < 0)
        return log_error(errno, "--control %s", path);
    error = socket_try(fd, address);
    if (error == 0 || error == -EAGAIN)
        return log_refuse(EADDRINUSE, "--control %s: another process serves it", path);
    if (error != -ECONNREFUSED || unlink(path) < 0)
        return log_error(errno, "--control %s: replace it", path);
    return 0;
}

/* What the process that removes the path may do. */
static const struct seccomp_rule remover_table[] = {
    { SYS_read, .reason = "the end of minivmm" },
#ifdef SYS_newfstatat
    { SYS_newfstatat, .reason = "is it still that socket?" },
#else
    { SYS_fstatat, .reason = "is it still that socket?" },
#endif
    { SYS_unlinkat, .reason = "remove it" },
    { SYS_exit_group, .reason = "the end" },
};

/*
 * The process that removes the path. It belongs to no terminal's job, so Ctrl-C does not reach it.
 * It keeps the socket's file open: else a successor's, which has replaced it, may get its number.
 */
static _Noreturn void remover_run(int directory, const char *name, int file, int alive)
{
    const struct seccomp_list list = { remover_table, ARRAY_SIZE(remover_table) };
    struct stat ours, st;
    sigset_t all;
    char byte;

    if (fstat(file, &ours) < 0)
        _exit(1);
    setsid();
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_NAME, "minivmm-remover");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    dup2(directory, 0);
    dup2(alive, 1);
    dup2(file, 2);
    open_close_range(3, ~0u);
    seccomp_restrict(&list, 1, SECCOMP_FAIL);
    while (read(1, &byte, 1) > 0)
        ;
    if (fstatat(0, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == ours.st_ino)
        unlinkat(0, name, 0);
    _exit(0);
}

static int remover_start(const char *path)
{
    char directory_copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char name_copy[sizeof(directory_copy)];
    cleanup_close int directory = -1, file = -1, end = -1;
    int alive[2];
    pid_t child;

    strcpy(directory_copy, path);
    strcpy(name_copy, path);
    directory = open(dirname(directory_copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
    file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0 || file < 0 || pipe2(alive, O_CLOEXEC) < 0)
        return log_error(errno, "--control %s", path);
    end = alive[0];
    child = fork();
    if (child < 0) {
        close(alive[1]);
        return log_error(errno, "--control %s: start a process", path);
    }
    if (child == 0) {
        close(alive[1]);
        remover_run(directory, basename(name_copy), file, end);
    }
    return 0; /* alive[1] stays open until this process ends */
}

int control_listen(const char *path)
{
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address;
    mode_t umask_before;
    int error = socket_address(&address, path);

    if (error || (error = socket_remove_stale(path, &address)))
        return error;
    umask_before = umask(0177);
    error = fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
                    listen(fd, BACKLOG) < 0
                ? log_error(errno, "--control %s", path)
                : 0;
    umask(umask_before);
    if (error)
        return error;
    error = remover_start(path);
    if (error) {
        unlink(path);
        return error;
    }
    return take_fd(&fd);
}
