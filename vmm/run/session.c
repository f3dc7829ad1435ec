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
#include <time.h>
#include <unistd.h>

#include "vmm/cli/status.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/run/agent.h"
#include "vmm/run/prefix.h"

#define STOP_TIMEOUT_MS 1000 /* time for the child to end after SIGUSR2, before SIGKILL */
#define CHECK_MS        1000 /* how often a child that is to end is looked at */
#define LOST_CHECKS     3    /* after as many, one that is dying is not waited for */

enum session_state {
    SESSION_BOOTING,
    SESSION_RUNNING,
    SESSION_FINISHED, /* outcome decided: the child drains its output, without a time limit */
    SESSION_STOPPING, /* outcome decided: the child has STOP_TIMEOUT_MS to end */
};

/* Memory that the child writes to. */
struct session_shared {
    char reason[LOG_REASON_SIZE]; /* its last error message */
    bool warm, kept;              /* see struct session_ends */
};

struct session {
    struct session_config config;
    struct loop *loop;
    pid_t child; /* 0: reaped */
    int wait_status;
    bool ended;
    bool killed;           /* SIGKILL was sent */
    unsigned dying_checks; /* that found it dying, one after the other */

    enum session_state state;
    struct outcome outcome; /* from SESSION_FINISHED on */
    struct session_shared *shared;
    bool command_ended; /* the agent waits for another job */
    int signals;        /* number sent to the command */
    int last_signal;    /* SIGTERM or SIGHUP after which everything must end in time; or 0 */
    unsigned warnings;  /* for log_guest() */
    uint64_t begin_ns;
    struct session_times times;

    struct watch agent, log; /* fd -1: closed at its end */
    struct agent_line line;
    struct kernel_log kernel_log;
    struct prefix *output, *errors; /* NULL: the child writes by itself */
    struct watch limit, phase;      /* alarms: for --timeout, and for the present state */
    struct watch check;             /* likewise, from SESSION_FINISHED on */
};

static int64_t session_now(const struct session *session)
{
    return (int64_t)(clock_now_ns() - session->begin_ns) / 1000000;
}

static void session_tell_child(const struct session *session, int signal)
{
    if (session->child)
        kill(session->child, signal);
}

/* Decides the outcome and asks the child to stop. False: it was decided before. */
static bool session_set_outcome(struct session *session, enum session_state state,
                                enum outcome_kind kind, int number)
{
    if (session->state >= SESSION_FINISHED)
        return false;
    session->state = state;
    session->outcome = (struct outcome){ .kind = kind, .number = number };
    session->times.end = session_now(session);
    alarm_set(&session->check, CHECK_MS);
    if (state == SESSION_STOPPING)
        alarm_set(&session->phase, STOP_TIMEOUT_MS);
    else if (!session->last_signal)
        alarm_set(&session->phase, 0);
    session_tell_child(session, SIGUSR2);
    return true;
}

static void session_kill(struct session *session)
{
    session->killed = true;
    kill(session->child, SIGKILL);
}

/* Kills a child that still drains output of a command that has ended. */
static void session_abandon_output(struct session *session, enum outcome_kind kind, int number)
{
    if (session->state != SESSION_FINISHED || !session->child)
        return;
    session->state = SESSION_STOPPING;
    session->outcome = (struct outcome){ .kind = kind, .number = number };
    session_kill(session);
}

/* The agent's messages. */

static void session_set_failure(struct session *session, enum outcome_kind kind,
                                const struct agent_message *message)
{
    struct outcome *outcome = &session->outcome;

    if (!session_set_outcome(session, SESSION_FINISHED, kind, message->number))
        return;
    snprintf(outcome->text, sizeof(outcome->text), "%s%s%s", message->text,
             *message->text && message->error ? ": " : "",
             message->error ? strerror(message->error) : "");
}

static void session_begin(struct session *session)
{
    session->times.init = session_now(session);
    if (session->config.begun)
        session->config.begun(session->config.owner);
}

/* `up_ms`: time since the kernel started, as the guest claims. */
static void session_record_ready(struct session *session, uint64_t up_ms)
{
    if (session->times.init >= 0)
        return;
    session_begin(session);
    if (up_ms <= (uint64_t)session->times.init)
        session->times.kernel = session->times.init - (int64_t)up_ms;
}

static void session_record_forked(struct session *session)
{
    if (session->times.init >= 0)
        return; /* it has booted */
    session_begin(session);
    session_tell_child(session, SIGPROF);
}

/* Only while the agent starts, so that a hostile guest cannot keep us busy with it. */
static void session_tell_time(struct session *session)
{
    struct timespec now;
    char line[48];
    int length;

    if (session->state != SESSION_BOOTING)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    length = snprintf(line, sizeof(line), "time %lld %ld\n", (long long)now.tv_sec, now.tv_nsec);
    send(session->agent.fd, line, (size_t)length, MSG_NOSIGNAL);
}

static void session_handle_message(struct session *session, const struct agent_message *message)
{
    switch (message->kind) {
    case AGENT_READY:
        session_record_ready(session, message->ms);
        break;
    case AGENT_WARM:
        if (session->state < SESSION_FINISHED)
            session_tell_child(session, SIGPROF);
        session->command_ended = session->state == SESSION_RUNNING;
        break;
    case AGENT_FORKED:
        session_record_forked(session);
        break;
    case AGENT_CLOCK:
        session_tell_time(session);
        break;
    case AGENT_RUNNING:
        if (session->state == SESSION_BOOTING) {
            session->times.command = session_now(session);
            session->state = SESSION_RUNNING;
            alarm_set(&session->phase, 0);
            session_tell_child(session, SIGURG);
        }
        break;
    case AGENT_NOTE:
        log_guest(&session->warnings, "%sin the guest: %s%s%s", session->config.label,
                  message->text, message->error ? ": " : "",
                  message->error ? strerror(message->error) : "");
        break;
    case AGENT_EXIT:
        session_set_outcome(session, SESSION_FINISHED, OUTCOME_EXIT, message->number);
        break;
    case AGENT_SIGNAL:
        session_set_outcome(session, SESSION_FINISHED, OUTCOME_SIGNAL, message->number);
        break;
    case AGENT_FAILED:
        session_set_failure(session, OUTCOME_NOT_RUN, message);
        break;
    case AGENT_ERROR:
        session_set_failure(session, OUTCOME_FAILED, message);
        break;
    }
}

static void session_parse_messages(struct session *session, const char *bytes, size_t count)
{
    struct agent_message message;
    const char *line;

    while (count > 0) {
        size_t taken = agent_take_line(&session->line, bytes, count, &line);

        if (line && agent_parse(&message, line))
            session_handle_message(session, &message);
        bytes += taken;
        count -= taken;
    }
}

/* True: the command's last output may be lost, even if the agent reported its end. */
static bool session_child_failed(const struct session *session)
{
    return WIFSIGNALED(session->wait_status) || WEXITSTATUS(session->wait_status) == STATUS_FAILED;
}

static void session_set_outcome_of_child(struct session *session)
{
    struct outcome *outcome = &session->outcome;

    if (session->shared->kept && !session_child_failed(session)) {
        *outcome = (struct outcome){ .kind = OUTCOME_EXIT };
        return;
    }
    *outcome =
        outcome_of_child(session->wait_status, session->times.command >= 0, &session->kernel_log);
    if (outcome->kind == OUTCOME_FAILED && !*outcome->text) {
        outcome->printed = true;
        snprintf(outcome->text, sizeof(outcome->text), "%.*s", LOG_REASON_SIZE - 1,
                 session->shared->reason);
    }
}

/* Whatever the guest says: the child alone knows whether the machine was kept. */
static void session_demand_machine(struct session *session)
{
    if (session->config.must_keep && !session->shared->kept &&
        outcome_status(&session->outcome) == 0)
        session->outcome =
            (struct outcome){ .kind = OUTCOME_FAILED, .text = "the machine was not kept" };
}

/* Ends the session once the child has ended and all of its output has been read. */
static void session_check_end(struct session *session)
{
    if (session->ended || session->child || session->agent.fd >= 0 || session->log.fd >= 0 ||
        !prefix_ended(session->output) || !prefix_ended(session->errors))
        return;
    session->ended = true;
    if (session->state < SESSION_FINISHED) {
        session_set_outcome_of_child(session);
        session->state = SESSION_FINISHED;
        session->times.end = session_now(session);
    } else if (session->state == SESSION_FINISHED && session_child_failed(session)) {
        session_set_outcome_of_child(session);
    }
    session_demand_machine(session);
    alarm_set(&session->limit, 0);
    alarm_set(&session->phase, 0);
    alarm_set(&session->check, 0);
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

/* Returns the number of bytes; 0: none now, or the end, where it closes the descriptor. */
static size_t session_read(struct session *session, struct watch *watch, char *bytes, size_t size)
{
    ssize_t count = read(watch->fd, bytes, size);

    if (count > 0)
        return (size_t)count;
    if (count == 0 || (errno != EINTR && errno != EAGAIN))
        session_close(session, watch);
    return 0;
}

static void session_agent_ready(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, agent);
    char bytes[4096];
    size_t count = session_read(session, watch, bytes, sizeof(bytes));

    session_parse_messages(session, bytes, count);
    session_check_end(session);
}

static void session_log_ready(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, log);
    char bytes[4096];
    size_t count = session_read(session, watch, bytes, sizeof(bytes));

    kernel_log_add(&session->kernel_log, bytes, count);
    session_check_end(session);
}

static void session_prefix_ended(void *owner)
{
    session_check_end(owner);
}

/* Stops the machine, or if the command has ended, no longer waits for its output to be read. */
static void session_cut_short(struct session *session, enum outcome_kind kind, int number)
{
    if (!session_set_outcome(session, SESSION_STOPPING, kind, number))
        session_abandon_output(session, kind, number);
}

static void session_limit_ready(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, limit);

    if (alarm_expired(watch))
        session_cut_short(session, OUTCOME_TIMEOUT, 0);
}

static void session_phase_ready(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, phase);

    if (!alarm_expired(watch))
        return;
    if (session->state == SESSION_BOOTING)
        session_set_outcome(session, SESSION_STOPPING, OUTCOME_HANG, 0);
    else if (session->state != SESSION_STOPPING)
        session_cut_short(session, OUTCOME_INTERRUPTED, session->last_signal);
    else if (session->child)
        session_kill(session);
}

/* Was the child killed, or has it exited but for a thread that the host keeps waiting? */
static bool session_child_is_dying(const struct session *session)
{
    char path[32], text[128] = "";
    const char *name_end;
    FILE *file;

    if (session->killed)
        return true;
    snprintf(path, sizeof(path), "/proc/%d/stat", session->child);
    file = fopen(path, "re");
    if (!file)
        return false;
    name_end = fgets(text, sizeof(text), file) ? strrchr(text, ')') : NULL;
    fclose(file);
    return name_end && !strncmp(name_end, ") Z", 3);
}

/* A thread that waits for a dead network filesystem, for example, outlives SIGKILL. */
static void session_give_up(struct session *session)
{
    log_warn(
        "%sthe host does not let the machine's process %d end, as it waits for a file; it ends "
        "when that file is there",
        session->config.label, session->child);
    session->child = 0;
    session_close(session, &session->agent);
    session_close(session, &session->log);
    prefix_destroy(session->output);
    prefix_destroy(session->errors);
    session->output = session->errors = NULL;
    session_check_end(session);
}

static void session_check_ready(struct watch *watch, short revents)
{
    struct session *session = container_of(watch, struct session, check);

    if (!alarm_expired(watch) || !session->child)
        return;
    session->dying_checks = session_child_is_dying(session) ? session->dying_checks + 1 : 0;
    if (session->dying_checks > LOST_CHECKS)
        session_give_up(session);
    else
        alarm_set(&session->check, CHECK_MS);
}

/* The child process. */

static void session_set_descriptor(int fd, int wanted)
{
    if (dup2(fd, wanted) >= 0)
        return;
    log_error(errno, "standard descriptors of the machine's process");
    _exit(STATUS_FAILED);
}

/*
 * Closes the descriptors that the supervisor has opened, except these: other sessions' pipes would
 * not come to their end. Inherited ones, not close-on-exec, stay open for --net tap,fd=N.
 */
static void session_close_others(const struct session_ends *keep, int another)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        int fd = atoi(entry->d_name);

        if (fd > STDERR_FILENO && fd != dirfd(directory) && fd != keep->agent && fd != keep->log &&
            fd != keep->names && fd != another && fcntl(fd, F_GETFD) & FD_CLOEXEC)
            close(fd);
    }
    if (directory)
        closedir(directory);
}

/*
 * SIGPWR kills the child at once when the supervisor has died. SIGUSR2 and SIGURG are blocked until
 * the child's loop reads them.
 */
static void session_set_up_child_signals(pid_t supervisor)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGURG);
    sigaddset(&set, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGPWR);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGPWR, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGPWR);
    if (getppid() != supervisor)
        _exit(STATUS_FAILED);
}

/* fds: agent, log, and with a label, standard output and error. `ours`: our end of the first. */
static _Noreturn void session_run_child(struct session *session, int ours, const int fds[4],
                                        pid_t supervisor)
{
    const struct session_ends ends = {
        .agent = fds[0],
        .log = fds[1],
        .names = ours,
        .warm = &session->shared->warm,
        .kept = &session->shared->kept,
    };

    session_set_up_child_signals(supervisor);
    log_keep_reason(session->shared->reason, true);
    if (*session->config.label) {
        session_set_descriptor(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        session_set_descriptor(fds[2], STDOUT_FILENO);
        session_set_descriptor(fds[3], STDERR_FILENO);
    }
    session_close_others(&ends, session->config.keep);
    exit(session->config.run(session->config.owner, &ends));
}

static void session_watch(struct session *session, struct watch *watch, int fd,
                          void (*ready)(struct watch *watch, short revents))
{
    *watch = (struct watch){ .fd = fd, .events = POLLIN, .ready = ready };
    loop_add(session->loop, watch);
}

static int session_fork(struct session *session, int ours, const int fds[4])
{
    pid_t supervisor = getpid();

    fflush(NULL);
    session->child = fork();
    if (session->child < 0)
        return log_error(errno, "fork the machine's process");
    if (session->child == 0)
        session_run_child(session, ours, fds, supervisor);
    return 0;
}

/* Our ends of the connections and the child's, in the order of session_run_child(). */
static int session_open_ends(struct session *session, int ours[4], int theirs[4])
{
    for (unsigned i = 0; i < (*session->config.label ? 4 : 2); i++) {
        int pair[2];

        if (i == 0 ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)
                   : pipe2(pair, O_CLOEXEC))
            return log_error(errno, "connect to the machine's process");
        ours[i] = pair[0];
        theirs[i] = pair[1];
        if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
            return log_error(errno, "connect to the machine's process");
    }
    return 0;
}

static int session_add_prefix(struct session *session, struct prefix **ret, int *from, int to)
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
    int error = alarm_open(&session->limit, session->loop, session_limit_ready);

    if (!error)
        error = alarm_open(&session->phase, session->loop, session_phase_ready);
    if (!error)
        error = alarm_open(&session->check, session->loop, session_check_ready);
    if (!error && *label)
        error = session_add_prefix(session, &session->output, &ours[2], STDOUT_FILENO);
    if (!error && *label)
        error = session_add_prefix(session, &session->errors, &ours[3], STDERR_FILENO);
    if (error)
        return error;
    session_watch(session, &session->agent, ours[0], session_agent_ready);
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
    session->agent.fd = session->log.fd = -1;
    session->kernel_log.echo = config->verbose ? config->label : NULL;
    session->times = (struct session_times){ -1, -1, -1, -1 };
    session->begin_ns = clock_now_ns();

    session->shared = mmap(NULL, sizeof(*session->shared), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    error = session->shared == MAP_FAILED ? log_error(errno, "session")
                                          : session_open_ends(session, ours, theirs);
    if (!error)
        error = session_fork(session, ours[0], theirs);
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
    if (!session->child || waitpid(session->child, &session->wait_status, WNOHANG) <= 0)
        return;
    session->child = 0;
    session_check_end(session);
}

/* The command may need some time to end, or may not listen. */
static void session_set_grace(struct session *session, int number)
{
    if (number != SIGTERM && number != SIGHUP)
        return;
    session->last_signal = number;
    alarm_set(&session->phase, session->config.grace_ms ? session->config.grace_ms : 1);
}

void session_signal(struct session *session, int number)
{
    char line[32];
    int length = snprintf(line, sizeof(line), "signal %d\n", number);

    if (session->state != SESSION_RUNNING || session->command_ended || session->signals++ ||
        send(session->agent.fd, line, (size_t)length, MSG_NOSIGNAL) != length)
        session_cut_short(session, OUTCOME_INTERRUPTED, number);
    else
        session_set_grace(session, number);
}

void session_report(const struct session *session, struct outcome *ret_outcome,
                    struct session_times *ret_times)
{
    *ret_outcome = session->outcome;
    *ret_times = session->times;
}

bool session_was_stillborn(const struct session *session)
{
    return session->shared->warm && session->times.init < 0 &&
           session->outcome.kind != OUTCOME_INTERRUPTED && session->outcome.kind != OUTCOME_TIMEOUT;
}

const struct kernel_log *session_kernel_log(const struct session *session)
{
    return &session->kernel_log;
}

void session_destroy(struct session *session)
{
    if (!session)
        return;
    if (session->child > 0) {
        kill(session->child, SIGKILL);
        waitpid(session->child, NULL, 0);
    }
    session_close(session, &session->agent);
    session_close(session, &session->log);
    prefix_destroy(session->output);
    prefix_destroy(session->errors);
    alarm_close(&session->limit, session->loop);
    alarm_close(&session->phase, session->loop);
    alarm_close(&session->check, session->loop);
    if (session->shared != MAP_FAILED)
        munmap(session->shared, sizeof(*session->shared));
    free(session);
}
