/* SPDX-License-Identifier: MIT */
#include "vmm/cli/front_end.h"

#include <errno.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "vmm/board/consoles.h"
#include "vmm/cli/early.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/control/json.h"
#include "vmm/control/server.h"
#include "vmm/control/socket.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

#define FORCE_MS 3000 /* how long vCPUs and disks may take before the process exits anyway */

void front_end_stop_signals(sigset_t *set)
{
    struct sigaction hangup;

    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(set, SIGHUP);
}

void front_end_block_signals(void)
{
    sigset_t set;

    front_end_stop_signals(&set);
    sigaddset(&set, SIGWINCH);
    sigaddset(&set, SIGCONT);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* write() fails with EPIPE or EFBIG instead */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* else nobody would learn how a child has ended */
}

void front_end_stop(struct front_end *f, int status)
{
    if (f->stopping)
        return; /* a repeated request must not give it more time */
    f->stopping = true;
    consoles_each(&f->machine.board, terminal_abandon);
    lifecycle_stop(&f->life, (unsigned)status);
    alarm_set(&f->force, FORCE_MS);
}

static void front_end_quit(void *owner)
{
    struct front_end *f = owner;

    f->ops->quit(f);
}

static void front_end_on_event(void *owner, enum life_event event, const char *name)
{
    struct front_end *f = owner;

    control_on_event(f->control, event, name);
    if (f->ops->event)
        f->ops->event(f, event, name);
    if (event == LIFE_HAS_STOPPED)
        loop_stop(f->loop);
}

static void front_end_on_signal(struct watch *watch, short revents)
{
    struct front_end *f = container_of(watch, struct front_end, signals);
    struct signalfd_siginfo info;

    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGWINCH)
        consoles_each(&f->machine.board, terminal_window_changed);
    else if (info.ssi_signo == SIGCONT)
        consoles_each(&f->machine.board, terminal_continued);
    else
        f->ops->signal(f, (int)info.ssi_signo);
}

static void front_end_drop_output(struct terminal *terminal)
{
    terminal_destroy(terminal, 0);
}

/* A thread is blocked in the host, by a dead network disk for example: exit without joining it. */
static void front_end_force(struct watch *watch, short revents)
{
    struct front_end *f = container_of(watch, struct front_end, force);

    log_warn("a vCPU, a disk or a file does not answer; exiting without it");
    consoles_each(&f->machine.board, front_end_drop_output);
    _exit((int)lifecycle_end(&f->life)->code);
}

/* Clients that connect meanwhile are answered when the loop runs. */
static int front_end_serve(struct front_end *f, const char *path)
{
    int error = json_open(), listener;

    if (error)
        return error;
    listener = control_listen(path);
    if (listener < 0)
        return listener;
    f->control = control_serve(listener, &f->life, f->loop);
    return f->control ? 0 : -ENOMEM;
}

static int front_end_init(struct front_end *f, const sigset_t *signals)
{
    const struct life_client client = { .on_event = front_end_on_event, .owner = f };
    sigset_t set = *signals;
    int error;

    sigaddset(&set, SIGWINCH);
    sigaddset(&set, SIGCONT);
    f->loop = loop_create();
    if (!f->loop)
        return log_error(errno, "create the main loop");
    f->signals = (struct watch){ .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
                                 .events = POLLIN,
                                 .ready = front_end_on_signal };
    if (f->signals.fd < 0)
        return log_error(errno, "set up signals");
    loop_add(f->loop, &f->signals);
    if ((error = alarm_open(&f->force, f->loop, front_end_force)) ||
        (error =
             lifecycle_init(&f->life, &f->machine, f->loop, &client, f->machine.config->reboot)))
        return error;
    if (f->machine.config->control && (error = front_end_serve(f, f->machine.config->control)))
        return error;
    return f->ops->prepare ? f->ops->prepare(f) : 0;
}

/* From here on the loop hears signals, and nothing can block it but what has a time limit. */
static void front_end_opened(void *owner)
{
    struct front_end *f = owner;

    early_end();
    consoles_each(&f->machine.board, terminal_start);
}

/* Builds the machine and starts the guest. */
static int front_end_start(struct front_end *f, bool interrupts)
{
    const struct machine_host host = { .loop = f->loop,
                                       .events = lifecycle_events(&f->life),
                                       .quit = front_end_quit,
                                       .opened = front_end_opened,
                                       .owner = f,
                                       .interrupts = interrupts };
    int error = machine_create(&f->machine, &host);

    return error ? error : lifecycle_start(&f->life);
}

static void front_end_finish(struct front_end *f)
{
    control_close(f->control);
    machine_destroy(&f->machine);
    if (f->ops->finish)
        f->ops->finish(f);
    lifecycle_finish(&f->life);
    alarm_close(&f->force, f->loop);
    loop_destroy(f->loop);
    if (f->signals.fd > 0)
        close(f->signals.fd);
}

int front_end_run(struct front_end *f, const struct front_end_ops *ops, const struct config *config,
                  const sigset_t *signals, bool interrupts)
{
    int status = STATUS_FAILED, error;

    f->ops = ops;
    error = machine_describe(&f->machine, config);
    machine_restore(&f->machine, f->snapshot);
    if (!error && front_end_init(f, signals) == 0 && front_end_start(f, interrupts) == 0) {
        loop_run(f->loop);
        status = ops->status(f, lifecycle_end(&f->life));
    }
    front_end_finish(f);
    return status;
}
