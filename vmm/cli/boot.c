/* SPDX-License-Identifier: MIT */
#include "vmm/cli/boot.h"

#include <signal.h>
#include <string.h>

#include "vmm/cli/descriptors.h"
#include "vmm/cli/dry_run.h"
#include "vmm/cli/early.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/control/server.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

struct boot {
    struct front_end front;
    int signal;                  /* the first signal received, or 0 */
    bool unheard;                /* the guest is to be told of it when it runs again */
    struct watch timeout, grace; /* timers */
};

static struct boot *boot_of(struct front_end *f)
{
    return container_of(f, struct boot, front);
}

static void boot_quit(struct front_end *f)
{
    front_end_stop(f, STATUS_POWER_OFF);
}

/*
 * The first signal asks the guest to power off, without a reboot; the second stops the machine. So
 * does the first while no guest runs that could listen. A guest that only waits for a request of
 * the control socket listens after it: it has disks to write, and what is saved meanwhile is not a
 * machine whose power button is pressed.
 */
static void boot_signal(struct front_end *f, int signal)
{
    const struct config *config = f->machine.config;
    struct boot *boot = boot_of(f);
    bool waits = control_runs_on(f->control);

    if (boot->signal || (!waits && lifecycle_state(&f->life) != LIFE_RUNNING)) {
        front_end_stop(f, STATUS_SIGNAL + signal);
        return;
    }
    boot->signal = signal;
    log_info("%s: asking the guest to power off", strsignal(signal));
    lifecycle_set_restart(&f->life, false);
    boot->unheard = waits;
    if (!waits)
        machine_press_power_button(&f->machine);
    alarm_set(&boot->grace, config->grace_ms ? config->grace_ms : 1);
}

static void boot_event(struct front_end *f, enum life_event event, const char *name)
{
    struct boot *boot = boot_of(f);

    if (!boot->unheard || lifecycle_state(&f->life) != LIFE_RUNNING)
        return;
    boot->unheard = false;
    machine_press_power_button(&f->machine);
}

static void boot_timed_out(struct watch *watch, short revents)
{
    struct boot *boot = container_of(watch, struct boot, timeout);

    watch->events = 0;
    log_warn("--timeout: the guest ran for more than %llu ms",
             (unsigned long long)boot->front.machine.config->timeout_ms);
    front_end_stop(&boot->front, STATUS_TIMEOUT);
}

static void boot_grace_expired(struct watch *watch, short revents)
{
    struct boot *boot = container_of(watch, struct boot, grace);

    watch->events = 0;
    front_end_stop(&boot->front, STATUS_SIGNAL + boot->signal);
}

int boot_guest_status(const struct life_end *end)
{
    switch (end->event) {
    case GUEST_POWER_OFF:
        return STATUS_POWER_OFF;
    case GUEST_RESET:
        return STATUS_RESET;
    case GUEST_EXIT:
        return (int)end->code;
    case GUEST_PANIC:
        return STATUS_PANIC;
    case GUEST_TRIPLE_FAULT:
        log_warn("the guest ended in a triple fault");
        return STATUS_TRIPLE_FAULT;
    case GUEST_KVM_FAILURE:
        return STATUS_KVM_FAILURE;
    }
    return STATUS_FAILED;
}

static int boot_status(struct front_end *f, const struct life_end *end)
{
    const struct boot *boot = boot_of(f);

    if (end->reason == END_REQUEST)
        return (int)end->code;
    if (end->reason == END_FAILURE)
        return STATUS_FAILED;
    if (end->event == GUEST_PANIC)
        log_warn("the guest's kernel panicked");
    if (end->event == GUEST_RESET && boot->signal && f->machine.config->reboot)
        return STATUS_SIGNAL + boot->signal; /* asked to power off, it rebooted */
    return boot_guest_status(end);
}

static int boot_prepare(struct front_end *f)
{
    struct boot *boot = boot_of(f);
    int error = alarm_open(&boot->timeout, f->loop, boot_timed_out);

    if (error || (error = alarm_open(&boot->grace, f->loop, boot_grace_expired)))
        return error;
    if (f->machine.config->timeout_ms)
        alarm_set(&boot->timeout, f->machine.config->timeout_ms);
    return 0;
}

static void boot_finish(struct front_end *f)
{
    struct boot *boot = boot_of(f);

    alarm_close(&boot->timeout, f->loop);
    alarm_close(&boot->grace, f->loop);
}

static const struct front_end_ops boot_ops = {
    .signal = boot_signal,
    .quit = boot_quit,
    .status = boot_status,
    .event = boot_event,
    .prepare = boot_prepare,
    .finish = boot_finish,
};

static int boot_dry_run(const struct config *config)
{
    struct machine machine;
    int error = machine_describe(&machine, config);

    if (!error)
        error = machine_try_boot(&machine);
    if (!error)
        error = dry_run_print(&machine);
    machine_destroy(&machine);
    return error ? STATUS_FAILED : STATUS_POWER_OFF;
}

int boot_run(const struct config *config, struct snapshot *snap)
{
    struct boot boot = { .front.snapshot = snap };
    sigset_t signals;

    if (descriptors_check(config))
        return STATUS_FAILED;
    descriptors_reserve();
    early_begin("--timeout", config->timeout_ms, STATUS_TIMEOUT);
    if (config->dry_run)
        return boot_dry_run(config);
    front_end_stop_signals(&signals);
    return front_end_run(&boot.front, &boot_ops, config, &signals, false);
}
