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

#include "firmware/boot/uki.h"
#include "firmware/image.h"
#include "vmm/cli/descriptors.h"
#include "vmm/cli/early.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/core/arena.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/open.h"
#include "vmm/run/child.h"
#include "vmm/run/kernel.h"
#include "vmm/run/options.h"
#include "vmm/run/report.h"
#include "vmm/run/session.h"
#include "vmm/run/warm.h"

struct supervisor;

/* One kernel's child. */
struct supervisor_child {
    struct supervisor *supervisor;
    struct child_params params;
    char version[KERNEL_VERSION_SIZE];
    const char *label;       /* for its lines of output; "": it is the only one */
    struct session *session; /* NULL: not started */
    struct session *failed;  /* the one before, of a warm machine that did not go on; or NULL */
};

struct supervisor {
    struct run_options options;
    struct loop *loop;
    struct watch signals; /* a signalfd */
    FILE *json;
    char reason[LOG_REASON_SIZE]; /* the last error */
    struct supervisor_child *children;
    struct report *reports;            /* one for each kernel, even if no child is started */
    char version[KERNEL_VERSION_SIZE]; /* of the default kernel or of `snap`; "": of --kernel */
    struct snapshot snap;              /* of --from; without files: none */
    unsigned count, started, ended;
    int interrupted; /* signal after which no child is started; 0: none */
    int terminal;    /* a duplicate of standard input; -1: it is not a terminal */
    struct termios mode;
};

/* Preparation. */

static int supervisor_choose_command(struct run_options *options)
{
    char **shell;

    if (*options->argv)
        return 0;
    if (!isatty(STDIN_FILENO))
        return log_refuse(EINVAL, "run: no command, and no terminal for a shell "
                                  "(see minivmm run --help)");
    shell = arena_alloc(&options->machine.arena, 2 * sizeof(*shell));
    if (!shell)
        return log_error(ENOMEM, "run");
    options->argv = shell;
    shell[0] = run_options_format(options, "%s", getenv("SHELL") ? getenv("SHELL") : "/bin/sh");
    return shell[0] ? 0 : -ENOMEM;
}

static int supervisor_choose_kernel(struct supervisor *s)
{
    struct run_options *options = &s->options;
    cleanup_free char *found = NULL;
    int error = 0;

    if (options->kernels)
        return 0;
    if (!options->from)
        error = kernel_find(&found, s->version, "");
    if (error)
        return error;
    options->kernels = arena_alloc(&options->machine.arena, sizeof(*options->kernels));
    if (!options->kernels)
        return log_error(ENOMEM, "kernel");
    options->kernels->text =
        options->from ? options->machine.kernel : run_options_format(options, "%s", found);
    return options->kernels->text ? 0 : -ENOMEM;
}

static int supervisor_read_version(struct supervisor_child *child)
{
    struct image kernel;
    int error;

    strcpy(child->version, child->supervisor->version);
    if (*child->version)
        return 0;
    error = uki_open(&kernel, child->params.kernel);
    if (error)
        return error;
    error = kernel_version(child->version, &kernel);
    image_close(&kernel);
    return error;
}

/* One for each --kernel, or for the default kernel. */
static int supervisor_add_reports(struct supervisor *s)
{
    const struct run_word *word = s->options.kernels;
    unsigned count = 0;

    do
        count++;
    while (word && (word = word->next));
    s->reports = arena_alloc(&s->options.machine.arena, count * sizeof(*s->reports));
    if (!s->reports)
        return log_error(ENOMEM, "run");
    s->count = count;
    word = s->options.kernels;
    for (unsigned i = 0; i < count; i++, word = word ? word->next : NULL)
        s->reports[i] =
            (struct report){ .kernel = word ? word->text : NULL,
                             .outcome = { .kind = OUTCOME_FAILED, .text = "not started" },
                             .times = { -1, -1, -1, -1 } };
    return 0;
}

static int supervisor_add_children(struct supervisor *s, const struct child_params *params)
{
    struct run_options *options = &s->options;
    struct run_word *word = options->kernels;
    int error = 0;

    s->children = arena_alloc(&options->machine.arena, s->count * sizeof(*s->children));
    if (!s->children)
        return log_error(ENOMEM, "run");
    for (unsigned i = 0; i < s->count && !error; i++, word = word->next) {
        struct supervisor_child *child = &s->children[i];

        child->supervisor = s;
        child->params = *params;
        child->params.kernel = s->reports[i].kernel = word->text;
        child->params.version = child->version;
        error = supervisor_read_version(child);
        if (!error)
            log_info("kernel %s: %s", child->version, child->params.kernel);
        s->reports[i].version = error ? NULL : child->version;
        child->label = s->count > 1 ? run_options_format(options, "%s: ", child->version) : "";
        if (!child->label)
            error = -ENOMEM;
    }
    return error;
}

/* What is decided by the machine of --from; params->mounts has only what is needed besides. */
static int supervisor_open_machine(struct supervisor *s, struct child_params *params)
{
    struct run_options *options = &s->options;
    char text[WARM_TEXT_MAX];
    const char *cwd;
    int error = mounts_read_cwd(&cwd, options);

    if (!error)
        error = warm_open(&s->snap, text, &options->machine, WARM_NAMED, options->from);
    if (!error)
        error = snapshot_check_memory(&s->snap, options->machine.memory);
    if (error)
        return error;
    if (sscanf(text, WARM_TEXT_VERSION, s->version) != 1 || !options->machine.shares)
        return log_refuse(EINVAL, "the warm machine %s was not made by minivmm warm",
                          options->from);
    params->snap = &s->snap;
    params->mounts =
        (struct mounts){ .root.host = options->machine.shares->directory.path, .cwd = cwd };
    return 0;
}

static int supervisor_prepare(struct supervisor *s)
{
    struct run_options *options = &s->options;
    struct child_params params = { .options = options };
    int error;

    if (options->verbose)
        log_set_level(LOG_LEVEL_INFO);
    if ((error = supervisor_choose_command(options)) ||
        (error = options->from ? supervisor_open_machine(s, &params) : 0) ||
        (error = supervisor_choose_kernel(s)) ||
        (error = options->from ? 0 : mounts_find(&params.mounts, options)) ||
        (error = user_find(&params.user, options, params.mounts.root.host)))
        return error;
    params.argv = options->argv;
    params.environment = user_environment(options, &params.user);
    if (!params.environment)
        return -ENOMEM;
    return supervisor_add_children(s, &params);
}

/* Outcomes. */

/* The end of the message if the run failed before the command ran. */
static const char *supervisor_advise(const struct supervisor_child *child)
{
    const struct supervisor *s = child->supervisor;
    const char *modules = s->options.modules;

    if (!modules || strcmp(modules, "none") != 0 ||
        s->reports[child - s->children].times.command >= 0)
        return "";
    return "; with --modules none, the kernel must have all drivers built in";
}

static void supervisor_explain(const struct supervisor_child *child, const struct outcome *outcome)
{
    const struct run_options *options = &child->supervisor->options;
    const char *label = child->label, *text = outcome->text;
    const char *separator = *text ? ": " : "";

    switch (outcome->kind) {
    case OUTCOME_EXIT:
    case OUTCOME_SIGNAL:
        if (options->name && outcome_status(outcome) != 0)
            log_warn("%s is not kept: the command did not exit with 0", options->name);
        break;
    case OUTCOME_NOT_RUN:
        log_warn("%scannot run '%s'%s%s", label, options->argv[0], separator, text);
        break;
    case OUTCOME_TIMEOUT:
        log_warn("%sthe command did not end within %llu ms (--timeout)", label,
                 (unsigned long long)options->timeout_ms);
        break;
    case OUTCOME_HANG:
        log_warn("%sthe guest did not start the command within %llu ms (--boot-timeout); "
                 "%s",
                 label, (unsigned long long)options->boot_timeout_ms,
                 options->verbose ? "a slow host needs more" : "--verbose shows how far it came");
        break;
    case OUTCOME_PANIC:
        log_warn("%sthe guest's kernel panicked%s%s", label, separator, text);
        break;
    case OUTCOME_OOPS:
        log_warn("%sthe guest's kernel had an oops%s%s", label, separator, text);
        break;
    case OUTCOME_POWER_OFF:
        log_warn("%sthe guest powered off before the command ended", label);
        break;
    case OUTCOME_RESET:
        log_warn("%sthe guest reset itself before the command ended", label);
        break;
    case OUTCOME_INTERRUPTED:
        log_warn("%sended by a signal: %s", label, strsignal(outcome->number));
        break;
    case OUTCOME_FAILED:
        if (*text && !outcome->printed)
            log_warn("%sfailed: %s%s", label, text, supervisor_advise(child));
        break;
    }
}

/* The child does it, too, unless it was killed. */
static void supervisor_restore_terminal(const struct supervisor *s)
{
    if (s->terminal >= 0 && tcgetpgrp(s->terminal) == getpgrp())
        tcsetattr(s->terminal, TCSANOW, &s->mode);
}

static void supervisor_start_children(struct supervisor *s);
static int supervisor_start_child(struct supervisor_child *child);

/* Boots instead of going on from a warm machine, which is made anew. */
static bool supervisor_try_again(struct supervisor_child *child)
{
    if (!session_was_stillborn(child->session) || child->failed || child->supervisor->interrupted ||
        child->params.snap)
        return false;
    log_info("%sthe warm machine does not go on; booting", child->label);
    child->failed = child->session;
    child->session = NULL;
    child->params.boots = true;
    return supervisor_start_child(child) == 0;
}

static void supervisor_child_ended(void *owner)
{
    struct supervisor_child *child = owner;
    struct supervisor *s = child->supervisor;
    struct report *report = &s->reports[child - s->children];

    supervisor_restore_terminal(s);
    session_report(child->session, &report->outcome, &report->times);
    if (supervisor_try_again(child))
        return;
    if (outcome_shows_kernel_log(&report->outcome))
        kernel_log_print(session_kernel_log(child->session), child->label);
    supervisor_explain(child, &report->outcome);
    s->ended++;
    supervisor_start_children(s);
}

/* Running the children. */

static int supervisor_run_child(void *owner, const struct session_ends *ends)
{
    return child_run(&((struct supervisor_child *)owner)->params, ends);
}

/* Gives up standard input and output, so that only a single child keeps them open. */
static void supervisor_child_begun(void *owner)
{
    const struct supervisor_child *child = owner;
    cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (child->supervisor->count > 1 || null < 0)
        return;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
}

static int supervisor_start_child(struct supervisor_child *child)
{
    const struct run_options *options = &child->supervisor->options;
    const struct session_config config = { .label = child->label,
                                           .timeout_ms = options->timeout_ms,
                                           .boot_timeout_ms = options->boot_timeout_ms,
                                           .grace_ms = options->grace_ms,
                                           .must_keep = options->name,
                                           .verbose = options->verbose,
                                           .keep = snapshot_memory(&child->supervisor->snap),
                                           .run = supervisor_run_child,
                                           .begun = supervisor_child_begun,
                                           .ended = supervisor_child_ended,
                                           .owner = child };

    return session_start(&child->session, &config, child->supervisor->loop);
}

/* Copies the last error message, the reason why a child was not started. */
static void supervisor_copy_reason(const struct supervisor *s, struct report *report)
{
    snprintf(report->outcome.text, sizeof(report->outcome.text), "%s", s->reason);
}

/* Starts children up to the limit of --jobs; stops the loop when all have ended. */
static void supervisor_start_children(struct supervisor *s)
{
    while (!s->interrupted && s->started < s->count && s->started - s->ended < s->options.jobs)
        if (supervisor_start_child(&s->children[s->started++])) {
            supervisor_copy_reason(s, &s->reports[s->started - 1]);
            s->ended++;
        }
    if (s->ended == s->started && (s->interrupted || s->started == s->count))
        loop_stop(s->loop);
}

static void supervisor_signals_ready(struct watch *watch, short revents)
{
    struct supervisor *s = container_of(watch, struct supervisor, signals);
    struct signalfd_siginfo info;

    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo != SIGCHLD)
        s->interrupted = (int)info.ssi_signo;
    for (unsigned i = 0; i < s->started; i++) {
        if (!s->children[i].session)
            continue;
        if (info.ssi_signo == SIGCHLD)
            session_reap(s->children[i].session);
        else
            session_signal(s->children[i].session, (int)info.ssi_signo);
    }
}

static int supervisor_watch_signals(struct supervisor *s)
{
    sigset_t set;

    early_end();
    front_end_stop_signals(&set);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->signals.events = POLLIN;
    s->signals.ready = supervisor_signals_ready;
    if (s->signals.fd < 0)
        return log_error(errno, "signals");
    loop_add(s->loop, &s->signals);
    return 0;
}

/* Those for runs that have ended. */
static void supervisor_drop_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;

    while (read(s->signals.fd, &info, sizeof(info)) == sizeof(info))
        ;
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
    supervisor_start_children(s);
    if (s->ended < s->started)
        loop_run(s->loop);
    supervisor_drop_signals(s);
    early_begin(NULL, 0, 0); /* whoever reads the report may be slow */
    return 0;
}

static int supervisor_report_json(struct supervisor *s)
{
    if (!s->json)
        return 0;
    report_json(s->json, s->reports, s->count);
    if (fflush(s->json) || ferror(s->json))
        return log_error(errno, "--json: write %s", s->options.json);
    return 0;
}

/* For an error before any child was started. */
static int supervisor_report_refusal(struct supervisor *s)
{
    for (unsigned i = 0; i < s->count; i++)
        supervisor_copy_reason(s, &s->reports[i]);
    supervisor_report_json(s);
    return STATUS_FAILED;
}

static int supervisor_report(struct supervisor *s)
{
    int status = s->interrupted ? STATUS_SIGNAL + s->interrupted : EXIT_SUCCESS;

    if (s->count == 1)
        status = outcome_status(&s->reports[0].outcome);
    else
        report_table(stderr, s->reports, s->count);
    for (unsigned i = 0; i < s->count && !status; i++)
        status = outcome_status(&s->reports[i].outcome) ? EXIT_FAILURE : EXIT_SUCCESS;
    return supervisor_report_json(s) ? STATUS_FAILED : status;
}

static void supervisor_finish(struct supervisor *s)
{
    for (unsigned i = 0; i < s->started; i++) {
        session_destroy(s->children[i].session);
        session_destroy(s->children[i].failed);
    }
    loop_destroy(s->loop);
    if (s->signals.fd >= 0)
        close(s->signals.fd);
    if (s->terminal >= 0)
        close(s->terminal);
    if (s->json)
        fclose(s->json);
    snapshot_close(&s->snap);
    run_options_finish(&s->options);
}

/* Called first, so that a file that cannot be written is reported before a child runs. */
static int supervisor_open_json(struct supervisor *s)
{
    const char *path = s->options.json;

    int fd = path ? open_output(path, O_TRUNC, 0666) : -1;

    if (path && fd < 0)
        return open_error("--json: open", path);
    if (path && !(s->json = fdopen(fd, "w"))) {
        close(fd);
        return log_error(ENOMEM, "--json");
    }
    return 0;
}

/* Until the first session begins and has alarms of its own. */
static void supervisor_limit(const struct run_options *options)
{
    bool boot = options->boot_timeout_ms &&
                (!options->timeout_ms || options->boot_timeout_ms < options->timeout_ms);

    early_begin(boot ? "--boot-timeout" : "--timeout",
                boot ? options->boot_timeout_ms : options->timeout_ms,
                boot ? STATUS_HANG : STATUS_TIMEOUT);
}

static int supervisor_do(const char *name, int argc, char **argv)
{
    struct supervisor s = { .signals = { .fd = -1 }, .terminal = -1, .snap.directory = -1 };
    enum config_result parsed;
    int status = STATUS_FAILED; /* for usage errors, too: 2 may be the command's status */

    log_keep_reason(s.reason, true);
    parsed = run_options_parse(&s.options, name, argc, argv);
    if (parsed == CONFIG_RUN && descriptors_check(&s.options.machine))
        parsed = CONFIG_USAGE;
    descriptors_reserve();
    supervisor_limit(&s.options);
    if (parsed == CONFIG_DONE)
        status = EXIT_SUCCESS;
    else if (supervisor_add_reports(&s) == 0 && supervisor_open_json(&s) == 0)
        status = parsed == CONFIG_RUN && supervisor_prepare(&s) == 0 && supervisor_run(&s) == 0
                     ? supervisor_report(&s)
                     : supervisor_report_refusal(&s);
    supervisor_finish(&s);
    log_keep_reason(NULL, true);
    return status;
}

int supervisor_main(int argc, char **argv)
{
    return supervisor_do(NULL, argc, argv);
}

int supervisor_warm(int argc, char **argv)
{
    return supervisor_do(argv[0], argc, argv);
}
