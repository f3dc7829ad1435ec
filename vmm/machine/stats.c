/* SPDX-License-Identifier: MIT */
#include "vmm/machine/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "devices/console/terminal.h"
#include "vmm/core/device.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/machine.h"

#define RATIO_SIZE 16

/* "-" for a division by zero. */
static const char *stats_ratio(char text[RATIO_SIZE], uint64_t count, uint64_t by)
{
    if (by == 0)
        return "-";
    snprintf(text, RATIO_SIZE, "%.3f", (double)count / (double)by);
    return text;
}

static void stats_print_vcpus(const struct vm *vm)
{
    log_result("%-10s %10s %10s %10s %10s %10s %11s %10s", "vcpu", "exits", "mmio-read",
               "mmio-write", "port-in", "port-out", "interrupted", "other");
    for (unsigned i = 0; i < vm->vcpus_wanted; i++) {
        const struct vcpu_stats *s = &vm->stats[i];

        log_result("vcpu%-6u %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64
                   " %11" PRIu64 " %10" PRIu64,
                   i, s->exits, s->mmio_reads, s->mmio_writes, s->port_ins, s->port_outs,
                   s->interrupted,
                   s->exits - s->mmio_reads - s->mmio_writes - s->port_ins - s->port_outs -
                       s->interrupted);
    }
}

/* Calls of poll() for this device: 0 if it shares the main loop. */
static uint64_t stats_polls(const struct machine *machine, const struct device_stats *s)
{
    return s->loop && s->loop != machine->board.host.loop ? loop_turns(s->loop) : 0;
}

static void stats_print_device(const struct machine *machine, struct device *device)
{
    char exits[RATIO_SIZE], calls[RATIO_SIZE], exits_per_interrupt[RATIO_SIZE];
    struct device_stats s = { 0 };
    uint64_t polls, all_calls;

    device->ops->count(device, &s);
    polls = stats_polls(machine, &s);
    all_calls = polls + s.kicks + s.interrupts + s.calls;
    log_result("%-10s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64
               " %10" PRIu64 " %13s %13s %15s",
               device->name, s.exits, s.kicks, s.requests, s.interrupts, polls, s.calls,
               stats_ratio(exits, s.exits, s.requests), stats_ratio(calls, all_calls, s.requests),
               stats_ratio(exits_per_interrupt, s.exits, s.interrupts));
}

static void stats_print_devices(const struct machine *machine)
{
    log_result("%-10s %10s %10s %10s %10s %10s %10s %13s %13s %15s", "device", "exits", "kicks",
               "requests", "interrupts", "polls", "calls", "exits/request", "calls/request",
               "exits/interrupt");
    for (struct device *device = machine->board.devices; device; device = device->next)
        stats_print_device(machine, device);
}

static void stats_print_console(const struct machine *machine, const char *name,
                                struct terminal *terminal)
{
    char exits[RATIO_SIZE], calls[RATIO_SIZE];
    struct device_stats s = { 0 };
    uint64_t bytes, writes;

    if (!terminal)
        return;
    for (struct device *device = machine->board.devices; device; device = device->next)
        if (!strcmp(device->name, name))
            device->ops->count(device, &s);
    terminal_count(terminal, &bytes, &writes);
    log_result("%-10s %10" PRIu64 " %10" PRIu64 " %10s %10s", name, bytes, writes,
               stats_ratio(exits, s.exits, bytes),
               stats_ratio(calls, s.kicks + s.interrupts + s.calls + writes, bytes));
}

static void stats_print_consoles(const struct machine *machine)
{
    const struct board *board = &machine->board;

    log_result("%-10s %10s %10s %10s %10s", "console", "bytes", "writes", "exits/byte",
               "calls/byte");
    stats_print_console(machine, board->hardware.serial.name, board->serial);
    stats_print_console(machine, board->console_name, board->console);
}

static void stats_print_phases(const struct timeline *timeline)
{
    static const char *const names[PHASE_COUNT] = {
        [PHASE_BEGIN] = "begin",     [PHASE_MEMORY] = "memory",   [PHASE_KVM] = "kvm",
        [PHASE_DEVICES] = "devices", [PHASE_SANDBOX] = "sandbox", [PHASE_VM] = "vm",
        [PHASE_SLOTS] = "slots",     [PHASE_IRQCHIP] = "irqchip", [PHASE_VCPUS] = "vcpus",
        [PHASE_IMAGE] = "image",     [PHASE_THREADS] = "threads", [PHASE_ENTRY] = "entry",
        [PHASE_EXIT] = "first-exit",
    };
    uint64_t before = timeline->done_ns[PHASE_BEGIN];

    log_result("%-10s %18s %10s", "phase", "monotonic-s", "took-us");
    for (unsigned i = 0; i < PHASE_COUNT && timeline->done_ns[i]; i++) {
        uint64_t ns = timeline->done_ns[i];

        log_result("%-10s %11" PRIu64 ".%06" PRIu64 " %10.1f", names[i], ns / 1000000000,
                   ns / 1000 % 1000000, (double)(int64_t)(ns - before) / 1000);
        before = ns;
    }
}

void stats_print(const struct machine *machine)
{
    stats_print_vcpus(&machine->vm);
    stats_print_devices(machine);
    stats_print_consoles(machine);
    log_result("%-10s %10s", "loop", "polls");
    log_result("%-10s %10" PRIu64, "main", loop_turns(machine->board.host.loop));
    stats_print_phases(&machine->timeline);
}
