/* SPDX-License-Identifier: MIT */
#include "vmm/cli/boot.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/kvm/arch.h"
#include "vmm/machine/machine.h"

/*
 * A running machine's life. Whoever ends it, guest, user or clock, the way is the same: a reason is
 * noted, every vCPU leaves the guest, and when the last one has, a thread of its own ends the
 * devices' I/O; only then does the main loop act. So the main loop waits neither for a vCPU nor for
 * a disk, vCPUs may wait for the main loop, and there is always somebody to listen to SIGTERM.
 */

#define FORCE_MS 3000 /* how long vCPUs and disks may take before the process ends without them */

struct run {
    struct machine machine;
    struct loop *loop;
    int status;  /* once `ending` */
    bool ending; /* the main loop has decided */
    int signal;  /* the one that asked the guest to power off, or 0 */

    pthread_mutex_t mutex; /* the event: vCPU threads report it */
    bool reported;
    enum guest_event event;
    unsigned code;

    bool again;         /* the machine starts once more */
    pthread_t resetter; /* from stopped to rested */

    struct watch signals;               /* a signalfd */
    struct watch stopped, rested;       /* eventfds: vm.all_stopped; the devices are reset */
    struct watch timeout, grace, force; /* timerfds */
};

void run_add_hangup(sigset_t *set)
{
    struct sigaction hangup;

    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(set, SIGHUP);
}

static void run_block(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    run_add_hangup(set);
    sigaddset(set, SIGWINCH);
    sigaddset(set, SIGCONT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

void run_block_signals(void)
{
    sigset_t set;

    run_block(&set);
    signal(SIGPIPE, SIG_IGN); /* EPIPE and EFBIG, then, where a write meets them */
    signal(SIGXFSZ, SIG_IGN);
}

/* Decides the exit status, once, and stops the vCPUs. Output that nobody reads is given up. */
static void run_end(struct run *run, int status)
{
    if (run->ending)
        return;
    run->ending = true;
    run->status = status;
    machine_each_terminal(&run->machine, terminal_abandon);
    vm_stop(&run->machine.vm);
    alarm_set(&run->force, FORCE_MS);
}

static void run_quit(void *owner)
{
    struct run *run = owner;

    run_end(run, run->machine.config->supervised ? STATUS_SIGNAL + SIGINT : STATUS_POWER_OFF);
}

/* From any thread: the first event counts. The vCPUs stop, then run_stopped() acts on it. */
static void run_report(void *owner, enum guest_event event, unsigned code)
{
    struct run *run = owner;

    {
        LOCK_SCOPE(&run->mutex);
        if (run->reported)
            return;
        run->reported = true;
        run->event = event;
        run->code = code;
    }
    vm_stop(&run->machine.vm);
}

static int run_event_status(const struct run *run)
{
    switch (run->event) {
    case GUEST_POWER_OFF:
        return STATUS_POWER_OFF;
    case GUEST_RESET:
        return STATUS_RESET;
    case GUEST_EXIT:
        return (int)run->code;
    case GUEST_PANIC:
        if (!run->machine.config->supervised)
            log_warn("the guest's kernel panicked");
        return STATUS_PANIC;
    case GUEST_TRIPLE_FAULT:
        log_warn("the guest ended in a triple fault");
        return STATUS_TRIPLE_FAULT;
    case GUEST_KVM_FAILURE:
        return STATUS_KVM_FAILURE;
    }
    return STATUS_FAILED;
}

static void *run_reset(void *arg)
{
    struct run *run = arg;

    machine_reset(&run->machine);
    if (write(run->rested.fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
        log_error(errno, "report that the devices are reset");
    return NULL;
}

/* Every vCPU has left the guest. */
static void run_stopped(struct watch *watch, short revents)
{
    struct run *run = container_of(watch, struct run, stopped);
    uint64_t count;
    int error;

    if (read(watch->fd, &count, sizeof(count)) < 0)
        return;
    run->again = !run->ending && run->event == GUEST_RESET && run->machine.config->reboot;
    if (!run->ending && !run->again)
        run->status = run_event_status(run);

    vm_destroy(&run->machine.vm);
    error = pthread_create(&run->resetter, NULL, run_reset, run);
    if (error) {
        log_error(error, "reset the devices");
        run->status = STATUS_FAILED;
        loop_stop(run->loop);
    }
}

/* Every device has, too. */
static void run_rested(struct watch *watch, short revents)
{
    struct run *run = container_of(watch, struct run, rested);
    uint64_t count;

    if (read(watch->fd, &count, sizeof(count)) < 0)
        return;
    pthread_join(run->resetter, NULL);
    if (run->again && !run->ending && run->signal) {
        run->status = STATUS_SIGNAL + run->signal; /* it was to end, not to begin again */
    } else if (run->again && !run->ending) {
        log_info("the guest resets");
        run->reported = false;
        if (machine_start(&run->machine) == 0)
            return;
        run->status = STATUS_FAILED;
    }
    loop_stop(run->loop);
}

/* The first asks the guest to power off, the second does not ask. */
static void run_terminate(struct run *run, int signal)
{
    if (run->signal) {
        run_end(run, STATUS_SIGNAL + signal);
        return;
    }
    run->signal = signal;
    log_info("%s: asking the guest to power off", strsignal(signal));
    arch_press_power_button(&run->machine);
    alarm_set(&run->grace, run->machine.config->grace_ms ? run->machine.config->grace_ms : 1);
}

static void run_signalled(struct watch *watch, short revents)
{
    struct run *run = container_of(watch, struct run, signals);
    struct signalfd_siginfo info;

    if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGWINCH)
        machine_each_terminal(&run->machine, terminal_window_changed);
    else if (info.ssi_signo == SIGCONT)
        machine_each_terminal(&run->machine, terminal_continued);
    else if (info.ssi_signo == SIGUSR2)
        run_end(run, STATUS_POWER_OFF);
    else if (info.ssi_signo == SIGURG)
        machine_each_terminal(&run->machine, terminal_pass_interrupts);
    else if (!run->machine.config->supervised)
        run_terminate(run, (int)info.ssi_signo);
}

static void run_timed_out(struct watch *watch, short revents)
{
    struct run *run = container_of(watch, struct run, timeout);

    watch->events = 0;
    log_warn("--timeout: the guest ran for more than %llu ms",
             (unsigned long long)run->machine.config->timeout_ms);
    run_end(run, STATUS_TIMEOUT);
}

static void run_grace_over(struct watch *watch, short revents)
{
    struct run *run = container_of(watch, struct run, grace);

    watch->events = 0;
    run_end(run, STATUS_SIGNAL + run->signal);
}

static void run_leave_output(struct terminal *terminal)
{
    terminal_destroy(terminal, 0);
}

/* A thread is stuck in the host (a dead network disk?): leave it behind. */
static void run_force(struct watch *watch, short revents)
{
    struct run *run = container_of(watch, struct run, force);

    log_warn("a vCPU or a disk does not come to its end; ending without it");
    machine_each_terminal(&run->machine, run_leave_output);
    _exit(run->status);
}

static int run_watch(struct run *run, struct watch *watch, int fd,
                     void (*ready)(struct watch *watch, short revents))
{
    if (fd < 0)
        return log_error(errno, "set up the main loop");
    *watch = (struct watch){ .fd = fd, .events = POLLIN, .ready = ready };
    loop_add(run->loop, watch);
    return 0;
}

static int run_init(struct run *run)
{
    sigset_t set;
    int error;

    run_block(&set);
    if (run->machine.config->supervised) {
        sigaddset(&set, SIGUSR2);
        sigaddset(&set, SIGURG);
    }
    pthread_mutex_init(&run->mutex, NULL);
    run->loop = loop_create();
    if (!run->loop)
        return log_error(errno, "create the main loop");
    if ((error = run_watch(run, &run->signals, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
                           run_signalled)) ||
        (error =
             run_watch(run, &run->rested, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), run_rested)) ||
        (error = alarm_open(&run->timeout, run->loop, run_timed_out)) ||
        (error = alarm_open(&run->grace, run->loop, run_grace_over)))
        return error;
    return alarm_open(&run->force, run->loop, run_force);
}

static void run_finish(struct run *run)
{
    const struct watch *ours[] = { &run->signals, &run->rested, &run->timeout, &run->grace,
                                   &run->force };

    loop_destroy(run->loop);
    for (unsigned i = 0; i < ARRAY_SIZE(ours); i++)
        if (ours[i]->fd > 0)
            close(ours[i]->fd);
    pthread_mutex_destroy(&run->mutex);
}

/* Everything up to the guest's first instruction. */
static int run_start(struct run *run)
{
    const struct event_sink events = { .report = run_report, .owner = run };
    int error = machine_create(&run->machine, run->loop, &events, run_quit, run);

    if (error)
        return error;
    run->stopped =
        (struct watch){ .fd = run->machine.vm.all_stopped, .events = POLLIN, .ready = run_stopped };
    loop_add(run->loop, &run->stopped);
    if (run->machine.config->timeout_ms)
        alarm_set(&run->timeout, run->machine.config->timeout_ms);
    return machine_start(&run->machine);
}

int run_machine(const struct config *config)
{
    struct run run = { .status = STATUS_FAILED };

    if (machine_describe(&run.machine, config) == 0) {
        if (config->dry_run) {
            machine_print(&run.machine);
            run.status = STATUS_POWER_OFF;
        } else if (run_init(&run) == 0 && run_start(&run) == 0) {
            loop_run(run.loop);
            if (config->supervised && machine_lost_output(&run.machine))
                run.status = STATUS_FAILED;
        }
    }
    machine_destroy(&run.machine);
    run_finish(&run);
    return run.status;
}
