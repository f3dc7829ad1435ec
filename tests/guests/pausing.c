/* SPDX-License-Identifier: MIT */

/*
 * pausing COUNT FD MINIVMM-OPTION...
 *
 * Runs a machine as minivmm does, and pauses and resumes it repeatedly until it ends. After COUNT
 * pauses it writes a byte to FD or, if that is -1, stops pausing. At every 16th pause it checks
 * that guest memory does not change; after every 8th it holds the last vCPU alone for a moment.
 * Exits with the guest's status, or 125 on failure; prints to stderr how often it paused and how
 * long that took.
 *
 * With a COUNT of 0 it pauses until a pause fails, prints the cause, and lets the guest run.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/boot.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/kvm/vcpu.h"

#define PAUSE_MS    20000
#define FAIL_MS     300 /* time limit of a pause that is expected to fail */
#define LOOK_MS     1   /* how long guest memory is watched */
#define LOOK_EVERY  16
#define HOLD_EVERY  8
#define LONGEST_RUN 4u /* ms between two pauses */

struct pausing {
    struct machine machine;
    struct lifecycle life;
    struct loop *loop;
    struct watch again; /* a timer */
    unsigned wanted, paused;
    int fd;
    uint64_t asked_ns, took_ns, longest_ns;
    uint32_t seed;
    bool failed;
};

static uint64_t sum_memory(const struct machine *machine)
{
    const struct ram_region *ram;
    uint64_t sum = 0;

    for (unsigned i = 0; (ram = guest_memory_region(machine->memory, i)); i++) {
        const uint64_t *words = ram->host;

        for (uint64_t word = 0; word < ram->size / sizeof(*words); word++)
            sum = sum * 31 + words[word];
    }
    return sum;
}

static void look(struct pausing *p)
{
    uint64_t before = sum_memory(&p->machine);

    poll(NULL, 0, LOOK_MS);
    if (sum_memory(&p->machine) != before) {
        log_refuse(EINVAL, "guest memory changes while the machine is paused");
        p->failed = true;
    }
}

static void pause_now(struct pausing *p)
{
    p->asked_ns = clock_now_ns();
    lifecycle_pause(&p->life, p->wanted ? PAUSE_MS : FAIL_MS);
}

static void has_paused(struct pausing *p)
{
    uint64_t took = clock_now_ns() - p->asked_ns;

    p->took_ns += took;
    if (took > p->longest_ns)
        p->longest_ns = took;
    if (p->paused++ % LOOK_EVERY == 0)
        look(p);
    if (p->paused == p->wanted && p->fd >= 0 && write(p->fd, "e", 1) < 0)
        p->failed = true;
    lifecycle_resume(&p->life);
}

/* A held vCPU does not run, while the others do. */
static void hold_one(struct pausing *p)
{
    struct vm *vm = &p->machine.vm;
    unsigned last = vm->vcpu_count - 1;
    uint64_t exits;

    if (vm_hold_vcpu(vm, last, clock_now_ns() + PAUSE_MS * 1000000ull)) {
        log_refuse(ETIMEDOUT, "vCPU %u cannot be held", last);
        p->failed = true;
        return;
    }
    exits = vm->stats[last].exits;
    poll(NULL, 0, LOOK_MS);
    if (vm->stats[last].exits != exits) {
        log_refuse(EINVAL, "vCPU %u runs while it is held", last);
        p->failed = true;
    }
    vm_release_vcpu(vm, last);
}

static void has_resumed(struct pausing *p)
{
    if (p->fd < 0 && p->wanted && p->paused >= p->wanted)
        return;
    if (p->paused % HOLD_EVERY == 0)
        hold_one(p);
    p->seed = p->seed * 1664525 + 1013904223;
    if (p->seed >> 31)
        pause_now(p);
    else
        alarm_set(&p->again, 1 + (p->seed >> 16) % LONGEST_RUN);
}

static void cannot_pause(struct pausing *p, const char *name)
{
    log_refuse(ETIMEDOUT, "cannot pause: %s is busy", name);
    if (p->wanted == 0)
        return; /* expected */
    p->failed = true;
    lifecycle_stop(&p->life, STATUS_FAILED);
}

static void on_event(void *owner, enum life_event event, const char *name)
{
    struct pausing *p = owner;

    switch (event) {
    case LIFE_HAS_PAUSED:
        has_paused(p);
        break;
    case LIFE_CANNOT_PAUSE:
        cannot_pause(p, name);
        break;
    case LIFE_HAS_RESUMED:
    case LIFE_HAS_RESET:
        has_resumed(p);
        break;
    case LIFE_HAS_STOPPED:
        loop_stop(p->loop);
        break;
    case LIFE_HAS_WORKED:
        break;
    }
}

static void again(struct watch *watch, short revents)
{
    if (alarm_expired(watch))
        pause_now(container_of(watch, struct pausing, again));
}

static void leave(void *owner)
{
}

static int run(struct pausing *p, const struct config *config)
{
    const struct life_client client = { .on_event = on_event, .owner = p };
    struct machine_host host = { .quit = leave };
    const struct life_end *end;
    int status = STATUS_FAILED;

    p->loop = loop_create();
    if (!p->loop || machine_describe(&p->machine, config) ||
        lifecycle_init(&p->life, &p->machine, p->loop, &client, true) ||
        alarm_open(&p->again, p->loop, again))
        return status;
    host.loop = p->loop;
    host.events = lifecycle_events(&p->life);
    if (machine_create(&p->machine, &host) == 0 && lifecycle_start(&p->life) == 0) {
        pause_now(p);
        loop_run(p->loop);
        end = lifecycle_end(&p->life);
        status = end->reason == END_GUEST ? boot_guest_status(end) : STATUS_FAILED;
    }
    machine_destroy(&p->machine);
    lifecycle_finish(&p->life);
    alarm_close(&p->again, p->loop);
    loop_destroy(p->loop);
    return p->failed || p->paused < p->wanted ? STATUS_FAILED : status;
}

int main(int argc, char **argv)
{
    static struct pausing p = { .seed = 1 };
    struct config config;
    int status;

    if (argc < 3)
        return STATUS_USAGE;
    p.wanted = (unsigned)atoi(argv[1]);
    p.fd = atoi(argv[2]);
    front_end_block_signals();
    if (config_parse(&config, NULL, argc - 2, argv + 2) != CONFIG_RUN)
        return STATUS_USAGE;
    status = run(&p, &config);
    fprintf(stderr, "paused %u times, %llu us each, at most %llu us\n", p.paused,
            (unsigned long long)(p.paused ? p.took_ns / p.paused / 1000 : 0),
            (unsigned long long)p.longest_ns / 1000);
    config_finish(&config);
    return status;
}
