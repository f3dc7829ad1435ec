/* SPDX-License-Identifier: MIT */
#include "firmware/init/spawn.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "firmware/init/job.h"
#include "firmware/init/job_read.h"
#include "firmware/init/message.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"

#define MAX_GROUPS 256
#define SHELL      "/bin/sh"

/* In the child. The order matters: a terminal needs a session, and setgroups() needs root. */
static int spawn_prepare(const struct message_sink *sink, const struct job *job,
                         const int streams[3], int tty)
{
    uint32_t groups[MAX_GROUPS];
    size_t count = 0;
    int error;

    sys_mask_signals(SIG_SETMASK, 0);
    sys_set_session();
    if (tty >= 0 && (error = sys_ioctl(tty, TIOCSCTTY, NULL)))
        message_send_note(sink, error, "set the controlling terminal ", job->tty);
    for (int fd = 0; fd < 3; fd++)
        sys_dup(streams[fd], fd);

    for (const char **group = job->lists[JOB_GROUP]; *group && count < MAX_GROUPS; group++)
        groups[count++] = (uint32_t)text_number(*group);
    if ((error = sys_set_groups(count, groups)) || (error = sys_set_gid(job->gid)) ||
        (error = sys_set_uid(job->uid)))
        return error;

    error = sys_chdir(job->cwd);
    if (error) {
        message_send_note(sink, error, "the command starts in / instead of ", job->cwd);
        sys_chdir("/");
    }
    return 0;
}

/*
 * Whether a file that the kernel cannot execute is a script without #!. As shells see it, a program
 * for another machine has a NUL in its first line.
 */
static bool spawn_is_script(const char *path)
{
    char head[128];
    int fd = sys_open(path, O_RDONLY);
    long size = fd < 0 ? fd : sys_read(fd, head, sizeof(head));

    if (fd >= 0)
        sys_close(fd);
    for (long i = 0; i < size && head[i] != '\n'; i++)
        if (!head[i])
            return false;
    return size >= 0;
}

/* As execvp(3): a script without #! is the shell's. */
static int spawn_file(const char *path, const char **argv, const char **env)
{
    int error = sys_execute(path, argv, env);
    const char **words;
    size_t count = 0;

    if (error != -ENOEXEC || !spawn_is_script(path))
        return error;
    while (argv[count])
        count++;
    words = sys_map((count + 2) * sizeof(*words), -1);
    if (!words)
        return -ENOMEM;
    words[0] = SHELL;
    words[1] = path;
    memcpy(words + 2, argv + 1, count * sizeof(*words)); /* with the NULL */
    sys_execute(SHELL, words, env);
    return error;
}

static const char *spawn_search_path(const char **env)
{
    for (; *env; env++) {
        const char *path = text_after(*env, "PATH=");

        if (path)
            return path;
    }
    return JOB_DEFAULT_PATH;
}

/* Tries each directory of PATH. Prefers the error of a file that was found to -ENOENT. */
static int spawn_search(const char **argv, const char **env)
{
    int error = -ENOENT;

    for (const char *next = spawn_search_path(env), *end; next; next = *end ? end + 1 : NULL) {
        struct text path = { .used = 0 };
        int result;

        for (end = next; *end && *end != ':';)
            end++;
        text_add_bytes(&path, next, (size_t)(end - next));
        if (end > next)
            text_add(&path, "/");
        text_add(&path, argv[0]);
        result = spawn_file(path.bytes, argv, env);
        if (result != -ENOENT && result != -ENOTDIR)
            error = result;
    }
    return error;
}

/* Returns only on failure. */
static int spawn_execute(const struct job *job)
{
    const char **argv = job->lists[JOB_ARG], **env = job->lists[JOB_ENV];

    if (!argv[0] || !argv[0][0])
        return -ENOENT;
    if (strchr(argv[0], '/'))
        return spawn_file(argv[0], argv, env);
    return spawn_search(argv, env);
}

/* The child reports its error through a pipe that execve() closes: no bytes mean success. */
int spawn_command(const struct message_sink *sink, const struct job *job, const int streams[3],
                  int tty)
{
    int result[2], error, status = 0;
    int pid = (error = sys_pipe(result)) ? error : sys_fork();

    if (pid < 0)
        message_fail(sink, pid, "start a process", "");
    if (pid == 0) {
        error = spawn_prepare(sink, job, streams, tty);
        if (!error)
            error = spawn_execute(job);
        sys_write(result[1], &error, sizeof(error));
        sys_exit(SPAWN_NOT_FOUND);
    }
    sys_close(result[1]);
    if (sys_read(result[0], &error, sizeof(error)) == sizeof(error)) {
        status = error == -ENOENT ? SPAWN_NOT_FOUND : SPAWN_NOT_EXECUTABLE;
        message_send_failed(sink, status, error);
    } else {
        message_send(sink, "running");
    }
    sys_close(result[0]);
    return status ? 0 : pid;
}
