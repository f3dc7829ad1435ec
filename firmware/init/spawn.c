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

/* Session, terminal, streams, user, directory: in the order in which one allows the next. */
static int command_prepare(const struct voice *voice, const struct orders *orders,
                           const int streams[3], int tty)
{
    uint32_t groups[MAX_GROUPS];
    size_t count = 0;
    int error;

    sys_mask_signals(SIG_SETMASK, 0);
    sys_set_session();
    if (tty >= 0 && (error = sys_ioctl(tty, TIOCSCTTY, NULL)))
        voice_note(voice, error, "take the terminal ", orders->tty);
    for (int fd = 0; fd < 3; fd++)
        sys_dup(streams[fd], fd);

    for (const char **group = orders->lists[ORDERS_GROUP]; *group && count < MAX_GROUPS; group++)
        groups[count++] = (uint32_t)text_number(*group);
    if ((error = sys_set_groups(count, groups)) || (error = sys_set_gid(orders->gid)) ||
        (error = sys_set_uid(orders->uid)))
        return error;

    error = sys_chdir(orders->cwd);
    if (error) {
        voice_note(voice, error, "the command starts in / and not in ", orders->cwd);
        sys_chdir("/");
    }
    return 0;
}

static const char *command_path(const char **env)
{
    for (; *env; env++) {
        const char *path = text_after(*env, "PATH=");

        if (path)
            return path;
    }
    return ORDERS_DEFAULT_PATH;
}

/* In each directory of PATH. What was found but could not be executed is what matters most. */
static int command_search(const char **argv, const char **env)
{
    int error = -ENOENT;

    for (const char *next = command_path(env), *end; next; next = *end ? end + 1 : NULL) {
        struct text path = { .used = 0 };
        int result;

        for (end = next; *end && *end != ':';)
            end++;
        text_add_bytes(&path, next, (size_t)(end - next));
        if (end > next)
            text_add(&path, "/");
        text_add(&path, argv[0]);
        result = sys_execute(path.bytes, argv, env);
        if (result != -ENOENT && result != -ENOTDIR)
            error = result;
    }
    return error;
}

/* Returns only on failure. */
static int command_execute(const struct orders *orders)
{
    const char **argv = orders->lists[ORDERS_ARG], **env = orders->lists[ORDERS_ENV];

    if (!argv[0] || !argv[0][0])
        return -ENOENT;
    if (strchr(argv[0], '/'))
        return sys_execute(argv[0], argv, env);
    return command_search(argv, env);
}

/* The end of a pipe that execution closes carries the news that it failed. */
int command_start(const struct voice *voice, const struct orders *orders, const int streams[3],
                  int tty)
{
    int news[2], error, status = 0;
    int pid = (error = sys_pipe(news)) ? error : sys_fork();

    if (pid < 0)
        voice_fail(voice, pid, "start a process", "");
    if (pid == 0) {
        error = command_prepare(voice, orders, streams, tty);
        if (!error)
            error = command_execute(orders);
        sys_write(news[1], &error, sizeof(error));
        sys_exit(COMMAND_NOT_FOUND);
    }
    sys_close(news[1]);
    if (sys_read(news[0], &error, sizeof(error)) == sizeof(error)) {
        status = error == -ENOENT ? COMMAND_NOT_FOUND : COMMAND_NOT_EXECUTABLE;
        voice_say_failed(voice, status, error);
    } else {
        voice_say(voice, "running");
    }
    sys_close(news[0]);
    return status ? 0 : pid;
}
