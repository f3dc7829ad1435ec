/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/control/client.h"
#include "vmm/control/json.h"
#include "vmm/control/socket.h"
#include "vmm/core/arena.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/machine/snapshot_files.h"
#include "vmm/snapshot/snapshot_command.h"
#include "vmm/snapshot/take.h"

/*
 * `minivmm fork`: a snapshot in sealed memory, and processes of `minivmm restore` that share it. It
 * goes when the last of them ends.
 */
#define MAX_FORKS   1024
#define MAX_OPTIONS 240 /* words for minivmm restore */

struct fork_options {
    unsigned count;
};

static const struct option fork_options[] = {
    { .name = "number",
      .letter = 'n',
      .argument = "N",
      .help = "how many (1)",
      .read = option_read_number,
      .at = offsetof(struct fork_options, count),
      .min = 1,
      .max = MAX_FORKS },
    { .name = "help", .letter = 'h', .help = "print this help", .read = option_print_help },
    { .name = NULL },
};

const struct option_table fork_table = {
    .program = "minivmm fork",
    .usage = "SOCKET [-n N] [-- OPTION...]  (options of minivmm restore, for each)",
    .options = fork_options,
};

/* Nobody can change what the forks share. */
static int fork_seal(const struct snapshot_files *files)
{
    for (unsigned i = 0; i < files->count; i++)
        if (fcntl(files->fds[i], F_ADD_SEALS,
                  F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
            return log_error(errno, "seal a snapshot");
    return 0;
}

/* "fd=3,fd=4": the files as `minivmm restore` takes them. */
static void fork_name_files(const struct snapshot_files *files, char *text, size_t size)
{
    size_t used = 0;

    for (unsigned i = 0; i < files->count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%sfd=%d", i ? "," : "", files->fds[i]);
}

/* In the child. Its control socket is beside the parent's; its consoles are connected to nothing.
 */
static _Noreturn void fork_execute(const struct snapshot_files *files, const char *socket,
                                   char **options)
{
    static char restore[] = "restore", control[] = "--control", none[] = "none";
    static char serial[] = "--serial", console[] = "--console", name[] = "minivmm";
    char where[1024], path[PATH_MAX], *words[MAX_OPTIONS + 16];
    unsigned count = 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    fork_name_files(files, where, sizeof(where));
    snprintf(path, sizeof(path), "%s", socket);
    for (unsigned i = 0; i < files->count; i++)
        fcntl(files->fds[i], F_SETFD, 0);
    setsid();
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    words[count++] = name;
    words[count++] = restore;
    words[count++] = where;
    words[count++] = control;
    words[count++] = path;
    words[count++] = serial;
    words[count++] = none;
    words[count++] = console;
    words[count++] = none;
    while (*options)
        words[count++] = *options++;
    words[count] = NULL;
    execv("/proc/self/exe", words);
    log_error(errno, "start minivmm");
    _exit(STATUS_FAILED);
}

/* The first free name SOCKET.N, from N on. */
static int fork_choose_name(char path[PATH_MAX], const char *socket, unsigned *n)
{
    for (; *n < INT_MAX; (*n)++) {
        if (snprintf(path, PATH_MAX, "%s.%u", socket, *n) >= PATH_MAX)
            return log_refuse(ENAMETOOLONG, "%s", socket);
        if (access(path, F_OK) < 0)
            return 0;
    }
    return -EEXIST;
}

/* Whether the guest runs. Only then may no device and no state be refused any more. */
static bool fork_runs(const char *path)
{
    cleanup_close int socket = control_connect(path);
    const struct control_client client = { socket, -1 };
    cleanup_free char *answer = malloc(CONTROL_ANSWER_SIZE);
    char why[128];
    const char *state;
    struct json *json;
    bool runs;

    if (socket < 0 || !answer || control_ask(&client, "GET", "/", NULL, NULL, 0, answer) < 0)
        return false;
    json = json_read(answer, strlen(answer), why, sizeof(why));
    state = json_text(json_member(json, "state"));
    runs = state && !strcmp(state, "Running");
    json_free(json);
    return runs;
}

/* Waits until the fork runs; -ECHILD: it has ended, and said why. */
static int fork_await(const char *path, pid_t child)
{
    const struct timespec pause = { .tv_nsec = 1000000 };

    int error = 0;

    log_expect_errors(true);
    while (!error && !fork_runs(path)) {
        if (waitpid(child, NULL, WNOHANG) != 0)
            error = -ECHILD;
        else
            nanosleep(&pause, NULL);
    }
    log_expect_errors(false);
    return error;
}

/* Prints the path of each fork's control socket, once it is served. */
static int fork_start_all(const struct snapshot_files *files, const char *socket, unsigned count,
                          char **options)
{
    char path[PATH_MAX];
    unsigned n = 1;

    for (unsigned i = 0; i < count; i++, n++) {
        int error = fork_choose_name(path, socket, &n);
        pid_t child = error ? -1 : fork();

        if (error)
            return error;
        if (child < 0)
            return log_error(errno, "start a process");
        if (child == 0)
            fork_execute(files, path, options);
        error = fork_await(path, child);
        if (error)
            return error;
        printf("%s\n", path);
    }
    return fflush(stdout) ? log_error(errno, "write") : 0;
}

static int fork_machine(const char *path, unsigned count, char **options)
{
    struct snapshot_files files = { .count = 0 };
    int error = json_open();
    cleanup_close int socket = error ? -1 : control_connect(path);
    const struct control_client client = { socket, -1 };

    if (socket < 0)
        return error ? error : socket;
    error = take_snapshot(&client, NULL, false, &files);
    if (!error && !(error = fork_seal(&files)))
        error = fork_start_all(&files, path, count, options);
    snapshot_files_close(&files);
    return error;
}

int fork_main(int argc, char **argv)
{
    struct fork_options options = { .count = 1 };
    struct arena arena = { NULL };
    struct option_reader reader = { .table = &fork_table, .base = &options, .arena = &arena };
    const char *socket = NULL;
    char **words = argv + 1;
    sigset_t signals;
    int result = 0;

    front_end_stop_signals(&signals);
    sigprocmask(SIG_UNBLOCK, &signals, NULL); /* there is nothing that it could leave behind */
    while (!result && *words && strcmp(*words, "--") != 0) {
        if ((*words)[0] == '-') {
            result = option_read_next(&reader, &words);
        } else if (socket) {
            log_refuse(EINVAL, "unexpected argument '%s' (see %s --help)", *words,
                       fork_table.program);
            result = -EINVAL;
        } else {
            socket = *words++;
        }
    }
    arena_free(&arena);
    if (result)
        return result > 0 ? EXIT_SUCCESS : STATUS_USAGE;
    if (!socket) {
        log_refuse(EINVAL, "expected a socket (see %s --help)", fork_table.program);
        return STATUS_USAGE;
    }
    words += !!*words;
    for (result = 0; words[result];)
        if (++result > MAX_OPTIONS) {
            log_refuse(EINVAL, "more than %d words for minivmm restore", MAX_OPTIONS);
            return STATUS_USAGE;
        }
    return fork_machine(socket, options.count, words) ? STATUS_FAILED : EXIT_SUCCESS;
}
