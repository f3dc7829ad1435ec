/* SPDX-License-Identifier: MIT */
#include "vmm/run/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "firmware/image.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/run/child.h"
#include "vmm/run/kernel.h"
#include "vmm/run/options.h"
#include "vmm/run/report.h"
#include "vmm/run/session.h"

struct supervisor;

/* One kernel of those to be tried. */
struct attempt {
    struct supervisor *supervisor;
    struct guest guest;
    char version[KERNEL_VERSION_SIZE];
    const char *label;
    struct session *session; /* NULL: not begun, or over */
};

struct supervisor {
    struct command command;
    struct loop *loop;
    struct watch signals; /* a signalfd */
    FILE *json;
    char reason[LOG_REASON_SIZE]; /* the last error */
    struct attempt *attempts;
    struct trial *trials; /* of the attempts */
    unsigned count, begun, ended;
    int interrupted; /* by this signal: no more are begun */
    int terminal;    /* standard input, if that is one; -1 */
    struct termios mode;
};

/* What is to be run. */

static int command_choose_argv(struct command *command)
{
    char **shell;

    if (*command->argv)
        return 0;
    if (!isatty(STDIN_FILENO))
        return log_refuse(EINVAL, "run: no command, and no terminal for a shell "
                                  "(see minivmm run --help)");
    shell = arena_alloc(&command->machine.arena, 2 * sizeof(*shell));
    if (!shell)
        return log_error(ENOMEM, "run");
    command->argv = shell;
    shell[0] = command_format(command, "%s", getenv("SHELL") ? getenv("SHELL") : "/bin/sh");
    return shell[0] ? 0 : -ENOMEM;
}

static int command_choose_kernel(struct command *command)
{
    cleanup_free char *found = NULL;
    int error;

    if (command->kernels)
        return 0;
    error = kernel_find(&found, "/boot");
    if (error)
        return error;
    command->kernels = arena_alloc(&command->machine.arena, sizeof(*command->kernels));
    if (!command->kernels)
        return log_error(ENOMEM, "kernel");
    command->kernels->text = command_format(command, "%s", found);
    return command->kernels->text ? 0 : -ENOMEM;
}

static int attempt_read_version(struct attempt *attempt)
{
    struct image kernel;
    int error = image_open(&kernel, attempt->guest.kernel);

    if (error)
        return error;
    error = kernel_version(attempt->version, &kernel);
    image_close(&kernel);
    return error;
}

/* One for each kernel named, or for the one to be found. */
static int supervisor_add_trials(struct supervisor *s)
{
    const struct command_word *word = s->command.kernels;
    unsigned count = 0;

    do
        count++;
    while (word && (word = word->next));
    s->trials = arena_alloc(&s->command.machine.arena, count * sizeof(*s->trials));
    if (!s->trials)
        return log_error(ENOMEM, "run");
    s->count = count;
    word = s->command.kernels;
    for (unsigned i = 0; i < count; i++, word = word ? word->next : NULL)
        s->trials[i] = (struct trial){ .kernel = word ? word->text : NULL,
                                       .outcome = { .kind = OUTCOME_FAILED, .text = "not started" },
                                       .times = { -1, -1, -1, -1 } };
    return 0;
}

static int supervisor_add_attempts(struct supervisor *s, const struct guest *guest)
{
    struct command *command = &s->command;
    struct command_word *word = command->kernels;
    int error = 0;

    s->attempts = arena_alloc(&command->machine.arena, s->count * sizeof(*s->attempts));
    if (!s->attempts)
        return log_error(ENOMEM, "run");
    for (unsigned i = 0; i < s->count && !error; i++, word = word->next) {
        struct attempt *attempt = &s->attempts[i];

        attempt->supervisor = s;
        attempt->guest = *guest;
        attempt->guest.kernel = s->trials[i].kernel = word->text;
        attempt->guest.version = attempt->version;
        error = attempt_read_version(attempt);
        s->trials[i].version = error ? NULL : attempt->version;
        attempt->label = s->count > 1 ? command_format(command, "%s: ", attempt->version) : "";
        if (!attempt->label)
            error = -ENOMEM;
    }
    return error;
}

static int supervisor_prepare(struct supervisor *s)
{
    struct command *command = &s->command;
    struct guest guest = { .command = command };
    int error;

    if ((error = command_choose_argv(command)) || (error = command_choose_kernel(command)) ||
        (error = places_find(&guest.places, command)) ||
        (error = user_find(&guest.user, command, guest.places.root.host)))
        return error;
    guest.argv = command->argv;
    guest.environment = user_environment(command, &guest.user);
    if (!guest.environment)
        return -ENOMEM;
    return supervisor_add_attempts(s, &guest);
}

/* What became of it. */

static void attempt_explain(const struct attempt *attempt, const struct outcome *outcome)
{
    const struct command *command = &attempt->supervisor->command;
    const char *label = attempt->label, *text = outcome->text;
    const char *separator = *text ? ": " : "";

    switch (outcome->kind) {
    case OUTCOME_EXIT:
    case OUTCOME_SIGNAL:
        break;
    case OUTCOME_NOT_RUN:
        log_warn("%scannot run '%s'%s%s", label, command->argv[0], separator, text);
        break;
    case OUTCOME_TIMEOUT:
        log_warn("%s--timeout: not done in %llu ms", label,
                 (unsigned long long)command->timeout_ms);
        break;
    case OUTCOME_HANG:
        log_warn("%sthe guest did not come as far as the command in %llu ms (--boot-timeout); "
                 "%s",
                 label, (unsigned long long)command->boot_timeout_ms,
                 command->verbose ? "a slow host needs more" : "--verbose shows how far");
        break;
    case OUTCOME_PANIC:
        log_warn("%sthe guest's kernel panicked%s%s", label, separator, text);
        break;
    case OUTCOME_OOPS:
        log_warn("%sthe guest's kernel had an oops%s%s", label, separator, text);
        break;
    case OUTCOME_POWER_OFF:
        log_warn("%sthe guest switched itself off before the command ended", label);
        break;
    case OUTCOME_RESET:
        log_warn("%sthe guest reset itself before the command ended", label);
        break;
    case OUTCOME_INTERRUPTED:
        log_warn("%sended by a signal: %s", label, strsignal(outcome->number));
        break;
    case OUTCOME_FAILED:
        if (*text && !outcome->told)
            log_warn("%sfailed: %s", label, text);
        break;
    }
}

/* The machine did that, unless it was killed. */
static void supervisor_restore_terminal(const struct supervisor *s)
{
    if (s->terminal >= 0 && tcgetpgrp(s->terminal) == getpgrp())
        tcsetattr(s->terminal, TCSANOW, &s->mode);
}

static void supervisor_begin(struct supervisor *s);

static void attempt_ended(void *owner)
{
    struct attempt *attempt = owner;
    struct supervisor *s = attempt->supervisor;
    struct trial *trial = &s->trials[attempt - s->attempts];

    supervisor_restore_terminal(s);
    session_report(attempt->session, &trial->outcome, &trial->times);
    if (outcome_by_guest(&trial->outcome))
        kernel_log_print(session_kernel_log(attempt->session), attempt->label);
    attempt_explain(attempt, &trial->outcome);
    s->ended++;
    supervisor_begin(s);
}

/* The life of them all. */

static int attempt_run(void *owner, const struct session_ends *ends)
{
    return guest_run(&((struct attempt *)owner)->guest, ends);
}

static int attempt_begin(struct attempt *attempt)
{
    const struct command *command = &attempt->supervisor->command;
    const struct session_config config = { .label = attempt->label,
                                           .timeout_ms = command->timeout_ms,
                                           .boot_timeout_ms = command->boot_timeout_ms,
                                           .verbose = command->verbose,
                                           .machine = attempt_run,
                                           .ended = attempt_ended,
                                           .owner = attempt };

    return session_start(&attempt->session, &config, attempt->supervisor->loop);
}

/* What was just printed is why that one was not started. */
static void supervisor_blame(const struct supervisor *s, struct trial *trial)
{
    snprintf(trial->outcome.text, sizeof(trial->outcome.text), "%s", s->reason);
}

/* As many as may be at once; ends the loop when there is no more to do. */
static void supervisor_begin(struct supervisor *s)
{
    while (!s->interrupted && s->begun < s->count && s->begun - s->ended < s->command.jobs)
        if (attempt_begin(&s->attempts[s->begun++])) {
            supervisor_blame(s, &s->trials[s->begun - 1]);
            s->ended++;
        }
    if (s->ended == s->begun && (s->interrupted || s->begun == s->count))
        loop_stop(s->loop);
}

static void supervisor_signalled(struct watch *watch, short revents)
{
    struct supervisor *s = container_of(watch, struct supervisor, signals);
    struct signalfd_siginfo info;

    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo != SIGCHLD)
        s->interrupted = (int)info.ssi_signo;
    for (unsigned i = 0; i < s->begun; i++) {
        if (!s->attempts[i].session)
            continue;
        if (info.ssi_signo == SIGCHLD)
            session_reap(s->attempts[i].session);
        else
            session_signal(s->attempts[i].session, (int)info.ssi_signo);
    }
}

static int supervisor_watch_signals(struct supervisor *s)
{
    sigset_t set;

    front_end_stop_signals(&set);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGCHLD, SIG_DFL); /* whoever started us may have ignored it */
    s->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->signals.events = POLLIN;
    s->signals.ready = supervisor_signalled;
    if (s->signals.fd < 0)
        return log_error(errno, "signals");
    loop_add(s->loop, &s->signals);
    return 0;
}

/* Input and output are the machine's alone from here on: their end must not wait for us. */
static void supervisor_let_go(struct supervisor *s)
{
    cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (s->count > 1 || null < 0)
        return;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
}

static int supervisor_run(struct supervisor *s)
{
    int error;

    s->loop = loop_create();
    if (!s->loop)
        return log_error(errno, "create a loop");
    if ((error = supervisor_watch_signals(s)))
        return error;
    if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &s->mode) == 0)
        s->terminal = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    supervisor_begin(s);
    supervisor_let_go(s);
    if (s->ended < s->begun)
        loop_run(s->loop);
    return 0;
}

static int supervisor_report_json(struct supervisor *s)
{
    if (!s->json)
        return 0;
    report_json(s->json, s->trials, s->count);
    if (fflush(s->json) || ferror(s->json))
        return log_error(errno, "--json: write %s", s->command.json);
    return 0;
}

/* Nothing was run. */
static int supervisor_report_refusal(struct supervisor *s)
{
    for (unsigned i = 0; i < s->count; i++)
        supervisor_blame(s, &s->trials[i]);
    supervisor_report_json(s);
    return STATUS_FAILED;
}

static int supervisor_report(struct supervisor *s)
{
    int status = s->interrupted ? STATUS_SIGNAL + s->interrupted : EXIT_SUCCESS;

    if (s->count == 1)
        status = outcome_status(&s->trials[0].outcome);
    else
        report_table(stderr, s->trials, s->count);
    for (unsigned i = 0; i < s->count && !status; i++)
        status = outcome_status(&s->trials[i].outcome) ? EXIT_FAILURE : EXIT_SUCCESS;
    return supervisor_report_json(s) ? STATUS_FAILED : status;
}

static void supervisor_finish(struct supervisor *s)
{
    for (unsigned i = 0; i < s->begun; i++)
        session_destroy(s->attempts[i].session);
    loop_destroy(s->loop);
    if (s->signals.fd >= 0)
        close(s->signals.fd);
    if (s->terminal >= 0)
        close(s->terminal);
    if (s->json)
        fclose(s->json);
    command_finish(&s->command);
}

/* First of all: a file that cannot be written is told before anything has been done. */
static int supervisor_open_json(struct supervisor *s)
{
    const char *path = s->command.json;

    if (path && !(s->json = fopen(path, "we")))
        return log_error(errno, "--json: open %s", path);
    return 0;
}

int command_run(int argc, char **argv)
{
    struct supervisor s = { .signals = { .fd = -1 }, .terminal = -1 };
    enum config_result parsed;
    int status = STATUS_FAILED; /* of wrong usage, too: 2 may be the command's own */

    log_keep_reason(s.reason);
    parsed = command_parse(&s.command, argc, argv);
    if (parsed == CONFIG_DONE)
        status = EXIT_SUCCESS;
    else if (supervisor_add_trials(&s) == 0 && supervisor_open_json(&s) == 0)
        status = parsed == CONFIG_RUN && supervisor_prepare(&s) == 0 && supervisor_run(&s) == 0
                     ? supervisor_report(&s)
                     : supervisor_report_refusal(&s);
    supervisor_finish(&s);
    log_keep_reason(NULL);
    return status;
}
