/* SPDX-License-Identifier: MIT */
#include "vmm/run/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/cli/status.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/run/agent.h"
#include "vmm/run/prefix.h"

#define PANIC_MS                                                                                  \
    300              /* from a panic's first line to the machine's end, so that the rest is heard \
                      */
#define STOP_MS 1000 /* what the process is given to end by itself; then it is killed */

enum session_state {
    SESSION_BOOTING,
    SESSION_RUNNING,
    SESSION_PANICKED, /* the end of the log is on its way */
    SESSION_FINISHED, /* decided: the process ends when all output has been read */
    SESSION_STOPPING, /* decided: the process has STOP_MS */
};

struct session {
    struct session_config config;
    struct loop *loop;
    pid_t machine; /* 0: reaped */
    int wait_status;
    bool ended;

    enum session_state state;
    struct outcome outcome; /* from SESSION_FINISHED on */
    char *reason;           /* shared with the process: what it said last of why it failed */
    int signals;            /* passed on to the command */
    unsigned warnings;      /* for log_guest() */
    uint64_t begin_ns;
    struct session_times times;

    struct watch control, log; /* fd -1: at its end */
    struct control_line line;
    struct kernel_log kernel_log;
    struct prefix *output, *errors; /* NULL: the machine has ours */
    struct watch limit, phase;      /* alarms: of the whole session, of its state */
};

static int64_t session_now(const struct session *session)
{
    return (int64_t)(clock_now_ns() - session->begin_ns) / 1000000;
}

/* Once; what comes later follows from it. False: it was decided before. */
static bool session_decide(struct session *session, enum session_state state,
                           enum outcome_kind kind, int number)
{
    if (session->state >= SESSION_FINISHED)
        return false;
    session->state = state;
    session->outcome = (struct outcome){ .kind = kind, .number = number };
    session->times.end = session_now(session);
    alarm_set(&session->phase, state == SESSION_STOPPING ? STOP_MS : 0);
    if (session->machine)
        kill(session->machine, SIGUSR2);
    return true;
}

/* The command has ended, but its output finds no reader: the user, or the clock, does not wait. */
static void session_give_up(struct session *session, enum outcome_kind kind, int number)
{
    if (session->state != SESSION_FINISHED || !session->machine)
        return;
    session->state = SESSION_STOPPING;
    session->outcome = (struct outcome){ .kind = kind, .number = number };
    kill(session->machine, SIGKILL);
}

/* What the guest's init says. */

static void session_failed(struct session *session, enum outcome_kind kind,
                           const struct control_message *message)
{
    struct outcome *outcome = &session->outcome;

    if (!session_decide(session, SESSION_FINISHED, kind, message->number))
        return;
    snprintf(outcome->text, sizeof(outcome->text), "%s%s%s", message->text,
             *message->text && message->error ? ": " : "",
             message->error ? strerror(message->error) : "");
}

/* `up_ms`: how long its kernel says it has been running. */
static void session_note_init(struct session *session, uint64_t up_ms)
{
    session->times.init = session_now(session);
    if (up_ms <= (uint64_t)session->times.init)
        session->times.kernel = session->times.init - (int64_t)up_ms;
}

static void session_obey(struct session *session, const struct control_message *message)
{
    switch (message->kind) {
    case CONTROL_READY:
        if (session->times.init < 0)
            session_note_init(session, message->ms);
        break;
    case CONTROL_RUNNING:
        if (session->state == SESSION_BOOTING) {
            session->times.command = session_now(session);
            session->state = SESSION_RUNNING;
            alarm_set(&session->phase, 0);
            if (session->machine)
                kill(session->machine, SIGURG);
        }
        break;
    case CONTROL_NOTE:
        log_guest(&session->warnings, "%sin the guest: %s%s%s", session->config.label,
                  message->text, message->error ? ": " : "",
                  message->error ? strerror(message->error) : "");
        break;
    case CONTROL_EXIT:
        session_decide(session, SESSION_FINISHED, OUTCOME_EXIT, message->number);
        break;
    case CONTROL_SIGNAL:
        session_decide(session, SESSION_FINISHED, OUTCOME_SIGNAL, message->number);
        break;
    case CONTROL_FAILED:
        session_failed(session, OUTCOME_NOT_RUN, message);
        break;
    case CONTROL_ERROR:
        session_failed(session, OUTCOME_FAILED, message);
        break;
    }
}

static void session_hear(struct session *session, const char *bytes, size_t count)
{
    struct control_message message;
    const char *line;

    while (count > 0) {
        size_t taken = control_take(&session->line, bytes, count, &line);

        if (line && control_parse(&message, line))
            session_obey(session, &message);
        bytes += taken;
        count -= taken;
    }
}

/* What the command said last may be lost, whatever its end. */
static bool session_machine_failed(const struct session *session)
{
    return WIFSIGNALED(session->wait_status) || WEXITSTATUS(session->wait_status) == STATUS_FAILED;
}

static void session_explain_machine(struct session *session)
{
    struct outcome *outcome = &session->outcome;

    *outcome = outcome_of_machine(session->wait_status, &session->kernel_log);
    if (outcome->kind == OUTCOME_FAILED && !*outcome->text) {
        outcome->told = true;
        snprintf(outcome->text, sizeof(outcome->text), "%.*s", LOG_REASON_SIZE - 1,
                 session->reason);
    }
}

/* The end, once the process is gone and everything it said was read. */
static void session_check_end(struct session *session)
{
    if (session->ended || session->machine || session->control.fd >= 0 || session->log.fd >= 0 ||
        !prefix_ended(session->output) || !prefix_ended(session->errors))
        return;
    session->ended = true;
    if (session->state < SESSION_FINISHED) {
        session_explain_machine(session);
        session->state = SESSION_FINISHED;
        session->times.end = session_now(session);
    } else if (session->state == SESSION_FINISHED && session_machine_failed(session)) {
        session_explain_machine(session);
    }
    alarm_set(&session->limit, 0);
    alarm_set(&session->phase, 0);
    session->config.ended(session->config.owner);
}

static void session_close(struct session *session, struct watch *watch)
{
    if (watch->fd < 0)
        return;
    loop_remove(session->loop, watch);
    close(watch->fd);
    watch->fd = -1;
}

/* How many bytes came; 0: the watch's descriptor is at its end, and closed. */
static size_t session_read(struct session *session, struct watch *watch, char *bytes, size_t size)
{
    ssize_t count = read(watch->fd, bytes, size);

    if (count > 0)
        return (size_t)count;
    if (count == 0 || (errno != EINTR && errno != EAGAIN))
        session_close(session, watch);
    return 0;
}

static void session_control_ready(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, control);
    char bytes[4096];
    size_t count = session_read(session, watch, bytes, sizeof(bytes));

    session_hear(session, bytes, count);
    session_check_end(session);
}

static void session_log_ready(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, log);
    bool panicked = session->kernel_log.panicked;
    char bytes[4096];
    size_t count = session_read(session, watch, bytes, sizeof(bytes));

    kernel_log_add(&session->kernel_log, bytes, count);
    if (!panicked && session->kernel_log.panicked && session->state < SESSION_PANICKED) {
        session->state = SESSION_PANICKED;
        alarm_set(&session->phase, PANIC_MS);
    }
    session_check_end(session);
}

static void session_prefix_ended(void *owner)
{
    session_check_end(owner);
}

static void session_limit_over(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, limit);

    if (alarm_expired(watch) && !session_decide(session, SESSION_STOPPING, OUTCOME_TIMEOUT, 0))
        session_give_up(session, OUTCOME_TIMEOUT, 0);
}

static void session_stop_panicked(struct session *session)
{
    bool oops = kernel_log_oops(&session->kernel_log);

    session_decide(session, SESSION_STOPPING, oops ? OUTCOME_OOPS : OUTCOME_PANIC, 0);
    snprintf(session->outcome.text, sizeof(session->outcome.text), "%s", session->kernel_log.panic);
}

static void session_phase_over(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, phase);

    if (!alarm_expired(watch))
        return;
    if (session->state == SESSION_BOOTING)
        session_decide(session, SESSION_STOPPING, OUTCOME_HANG, 0);
    else if (session->state == SESSION_PANICKED)
        session_stop_panicked(session);
    else if (session->state == SESSION_STOPPING && session->machine)
        kill(session->machine, SIGKILL);
}

/* The process. */

static void session_replace(int fd, int place)
{
    if (dup2(fd, place) >= 0)
        return;
    log_error(errno, "descriptors of the machine");
    _exit(STATUS_FAILED);
}

/*
 * Other machines' ends, which would not end if we had them, the loop's, ...: all that were opened
 * since the program began, but for two. What the user handed down stays: --net tap,fd=N.
 */
static void session_close_others(int keep, int keep_too)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        int fd = atoi(entry->d_name);

        if (fd > STDERR_FILENO && fd != dirfd(directory) && fd != keep && fd != keep_too &&
            fcntl(fd, F_GETFD) & FD_CLOEXEC)
            close(fd);
    }
    if (directory)
        closedir(directory);
}

/* SIGPWR ends us when the supervisor is gone, whatever we are doing; its others wait for the loop.
 */
static void session_inherit_signals(pid_t supervisor)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGPWR);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGPWR, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGPWR);
    if (getppid() != supervisor)
        _exit(STATUS_FAILED);
}

/* fds: control, log, and if they are gathered, output and error. */
static _Noreturn void session_machine(struct session *session, const int fds[4], pid_t supervisor)
{
    const struct session_ends ends = { .control = fds[0], .log = fds[1] };

    session_inherit_signals(supervisor);
    log_keep_reason(session->reason);
    if (*session->config.label) {
        session_replace(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        session_replace(fds[2], STDOUT_FILENO);
        session_replace(fds[3], STDERR_FILENO);
    }
    session_close_others(ends.control, ends.log);
    exit(session->config.machine(session->config.owner, &ends));
}

static void session_watch(struct session *session, struct watch *watch, int fd,
                          void (*ready)(struct watch *watch, short revents))
{
    *watch = (struct watch){ .fd = fd, .events = POLLIN, .ready = ready };
    loop_add(session->loop, watch);
}

static int session_fork(struct session *session, const int fds[4])
{
    pid_t supervisor = getpid();

    fflush(NULL);
    session->machine = fork();
    if (session->machine < 0)
        return log_error(errno, "start the machine's process");
    if (session->machine == 0)
        session_machine(session, fds, supervisor);
    return 0;
}

/* Ours, and in the same order the machine's. */
static int session_open_ends(struct session *session, int ours[4], int theirs[4])
{
    for (unsigned i = 0; i < (*session->config.label ? 4 : 2); i++) {
        int pair[2];

        if (i == 0 ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)
                   : pipe2(pair, O_CLOEXEC))
            return log_error(errno, "connect the machine");
        ours[i] = pair[0];
        theirs[i] = pair[1];
        if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
            return log_error(errno, "connect the machine");
    }
    return 0;
}

static int session_gather(struct session *session, struct prefix **ret, int *from, int to)
{
    int error = prefix_create(ret, session->config.label, *from, to, session->loop,
                              session_prefix_ended, session);

    if (!error)
        *from = -1;
    return error;
}

static int session_watch_all(struct session *session, int ours[4])
{
    const char *label = session->config.label;
    int error = alarm_open(&session->limit, session->loop, session_limit_over);

    if (!error)
        error = alarm_open(&session->phase, session->loop, session_phase_over);
    if (!error && *label)
        error = session_gather(session, &session->output, &ours[2], STDOUT_FILENO);
    if (!error && *label)
        error = session_gather(session, &session->errors, &ours[3], STDERR_FILENO);
    if (error)
        return error;
    session_watch(session, &session->control, ours[0], session_control_ready);
    session_watch(session, &session->log, ours[1], session_log_ready);
    ours[0] = ours[1] = -1;
    alarm_set(&session->limit, session->config.timeout_ms);
    alarm_set(&session->phase, session->config.boot_timeout_ms);
    return 0;
}

int session_start(struct session **ret, const struct session_config *config, struct loop *loop)
{
    struct session *session = calloc(1, sizeof(*session));
    int ours[4] = { -1, -1, -1, -1 }, theirs[4] = { -1, -1, -1, -1 };
    int error;

    if (!session)
        return log_error(ENOMEM, "session");
    session->config = *config;
    session->loop = loop;
    session->control.fd = session->log.fd = -1;
    session->kernel_log.echo = config->verbose ? config->label : NULL;
    session->times = (struct session_times){ -1, -1, -1, -1 };
    session->begin_ns = clock_now_ns();

    session->reason =
        mmap(NULL, LOG_REASON_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    error = session->reason == MAP_FAILED ? log_error(errno, "session")
                                          : session_open_ends(session, ours, theirs);
    if (!error)
        error = session_fork(session, theirs);
    if (!error)
        error = session_watch_all(session, ours);
    for (unsigned i = 0; i < ARRAY_SIZE(ours); i++) {
        if (theirs[i] >= 0)
            close(theirs[i]);
        if (ours[i] >= 0)
            close(ours[i]);
    }
    if (error)
        session_destroy(session);
    else
        *ret = session;
    return error;
}

void session_reap(struct session *session)
{
    if (!session->machine || waitpid(session->machine, &session->wait_status, WNOHANG) <= 0)
        return;
    session->machine = 0;
    session_check_end(session);
}

void session_signal(struct session *session, int number)
{
    char line[32];
    int length = snprintf(line, sizeof(line), "signal %d\n", number);

    if (session->state >= SESSION_FINISHED)
        session_give_up(session, OUTCOME_INTERRUPTED, number);
    else if (session->state != SESSION_RUNNING || session->signals++ ||
             send(session->control.fd, line, (size_t)length, MSG_NOSIGNAL) != length)
        session_decide(session, SESSION_STOPPING, OUTCOME_INTERRUPTED, number);
}

void session_report(const struct session *session, struct outcome *ret_outcome,
                    struct session_times *ret_times)
{
    *ret_outcome = session->outcome;
    *ret_times = session->times;
}

const struct kernel_log *session_kernel_log(const struct session *session)
{
    return &session->kernel_log;
}

void session_destroy(struct session *session)
{
    if (!session)
        return;
    if (session->machine > 0) {
        kill(session->machine, SIGKILL);
        waitpid(session->machine, NULL, 0);
    }
    session_close(session, &session->control);
    session_close(session, &session->log);
    prefix_destroy(session->output);
    prefix_destroy(session->errors);
    alarm_close(&session->limit, session->loop);
    alarm_close(&session->phase, session->loop);
    if (session->reason != MAP_FAILED)
        munmap(session->reason, LOG_REASON_SIZE);
    free(session);
}
