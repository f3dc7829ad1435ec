/* SPDX-License-Identifier: MIT */
#include "firmware/init/spawn.h"

#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "firmware/init/job.h"
#include "firmware/init/job_read.h"
#include "firmware/init/message.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"

/* Open files of the command, as with systemd: the kernel's own hard limit is 4096. */
#define FILES_SOFT 1024
#define FILES_HARD 524288

#define SHELL "/bin/sh"

/* What the child could not do. It writes this to a pipe: the strings are the parent's, too. */
struct spawn_failure {
    int error;
    const char *what, *name; /* as in message.h; NULL: execute the command */
};

static int spawn_set_groups(const char **list)
{
    size_t count = 0;
    uint32_t *groups;

    while (list[count])
        count++;
    groups = count ? sys_map(count * sizeof(*groups), -1) : NULL;
    if (count && !groups)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        groups[i] = (uint32_t)text_number(list[i]);
    return sys_set_groups(count, groups);
}

/* In the child. The order matters: a terminal needs a session, and setgroups() needs root. */
static struct spawn_failure spawn_prepare(const struct message_sink *sink, const struct job *job,
                                          const int streams[3], int tty)
{
    int error;

    sys_mask_signals(SIG_SETMASK, 0);
    sys_set_limit(RLIMIT_NOFILE, FILES_SOFT, FILES_HARD);
    sys_set_session();
    if (tty >= 0 && (error = sys_ioctl(tty, TIOCSCTTY, NULL)))
        message_send_note(sink, error, "set the controlling terminal ", job->tty);
    for (int fd = 0; fd < 3; fd++)
        sys_dup(streams[fd], fd);

    if ((error = spawn_set_groups(job->lists[JOB_GROUP])) || (error = sys_set_gid(job->gid)) ||
        (error = sys_set_uid(job->uid)))
        return (struct spawn_failure){ error, "set the command's user and groups", "" };
    error = sys_chdir(job->cwd);
    return (struct spawn_failure){
        error, "name a directory of the guest with --cwd, the command cannot start in ", job->cwd
    };
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

static void spawn_report(const struct message_sink *sink, const struct spawn_failure *failure)
{
    if (failure->what)
        message_send_error(sink, failure->error, failure->what, failure->name);
    else
        message_send_failed(sink,
                            failure->error == -ENOENT ? SPAWN_NOT_FOUND : SPAWN_NOT_EXECUTABLE,
                            failure->error);
}

/* The child reports its failure through a pipe that execve() closes: no bytes mean success. */
int spawn_command(const struct message_sink *sink, const struct job *job, const int streams[3],
                  int tty)
{
    struct spawn_failure failure;
    int result[2], error;
    int pid = (error = sys_pipe(result)) ? error : sys_fork();
    bool failed;

    if (pid < 0)
        message_fail(sink, pid, "start a process", "");
    if (pid == 0) {
        failure = spawn_prepare(sink, job, streams, tty);
        if (!failure.error)
            failure = (struct spawn_failure){ .error = spawn_execute(job) };
        sys_write(result[1], &failure, sizeof(failure));
        sys_exit(SPAWN_NOT_FOUND);
    }
    sys_close(result[1]);
    failed = sys_read(result[0], &failure, sizeof(failure)) == sizeof(failure);
    sys_close(result[0]);
    if (failed)
        spawn_report(sink, &failure);
    return failed ? 0 : pid;
}
