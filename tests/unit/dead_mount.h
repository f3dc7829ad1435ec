/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_DEAD_MOUNT_H
#define TESTS_UNIT_DEAD_MOUNT_H

#include <check.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/tree.h"

#define DEAD_NO_MOUNT "this user may not mount FUSE, not even in a user namespace"

/*
 * A FUSE server that answers INIT only. It is a process of its own, which ends with this one: else
 * a thread that waits for it could not be killed.
 */
struct dead_server {
    int asked; /* a pipe with a byte for each request that waits */
    pid_t pid; /* 0: no permission to mount */
};

static inline void dead_answer_init(int fd)
{
    struct {
        struct fuse_out_header header;
        struct fuse_init_out init;
    } hello = { .header = { .len = sizeof(hello) },
                .init = { .major = FUSE_KERNEL_VERSION, .minor = 31 } };
    char request[FUSE_MIN_READ_BUFFER];

    ck_assert_int_gt(read(fd, request, sizeof(request)), 0);
    memcpy(&hello.header.unique, request + offsetof(struct fuse_in_header, unique),
           sizeof(hello.header.unique));
    ck_assert_int_eq(write(fd, &hello, sizeof(hello)), sizeof(hello));
}

static inline struct dead_server dead_mount(const char *path)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), ends[2];
    char options[64], request[FUSE_MIN_READ_BUFFER];
    struct dead_server server = { 0 };

    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
    if (fd < 0 || !tree_own_mounts() || mount("dead", path, "fuse", 0, options) < 0)
        return server;
    dead_answer_init(fd);
    ck_assert_int_eq(pipe(ends), 0);
    server = (struct dead_server){ ends[0], fork() };
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (read(fd, request, sizeof(request)) > 0)
            if (write(ends[1], "", 1) < 0)
                break;
        _exit(0);
    }
    close(fd);
    close(ends[1]);
    return server;
}

/* Waits until a request waits. */
static inline void dead_wait(const struct dead_server *server)
{
    char byte;

    ck_assert_int_eq(read(server->asked, &byte, 1), 1);
}

/* All requests that wait fail. */
static inline void dead_kill(struct dead_server *server)
{
    ck_assert_int_eq(kill(server->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(server->pid, NULL, 0), server->pid);
    close(server->asked);
}

#endif
