/* SPDX-License-Identifier: MIT */

/*
 * moving COUNT SEED FD MINIVMM-OPTION...
 *
 * Runs a machine as minivmm does and, at COUNT random moments, saves it, destroys it, and goes on
 * in a new one that loads what was saved: the guest must notice nothing. What a new machine saves
 * before it has run must be what it has loaded; the first and each tenth time this is tried. Then
 * it writes a byte to FD or, if that is -1, lets the guest run on. Exits with the guest's status,
 * or 125 on failure; prints to stderr how often the machine moved, and how long saving took.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "same_state.h"
#include "vmm/cli/boot.h"
#include "vmm/cli/front_end.h"
#include "vmm/cli/status.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/core/alarm.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/machine/snapshot.h"

#define PAUSE_MS    20000
#define LONGEST_RUN 16u /* ms between two moves, and half of what saving takes */
#define CHECK_EVERY 10u /* moves */

struct moving {
    struct machine machine;
    struct lifecycle life;
    struct loop *loop;
    struct watch move; /* a timer */
    unsigned wanted, moved;
    int fd;
    struct snapshot_files files; /* of the next one */
    uint64_t asked_ns, took_ns, longest_ns;
    uint32_t seed;
    bool failed;
};

static void fail(struct moving *m, const char *what)
{
    log_refuse(EINVAL, "cannot move: %s", what);
    m->failed = true;
    lifecycle_stop(&m->life, STATUS_FAILED);
}

/* The next machine has the disks themselves: these copies are dropped. */
static void add_disks(const struct machine *machine, struct snapshot_files *files)
{
    for (unsigned i = 0; i < machine->board.disk_count; i++)
        snapshot_files_add(files, memfd_create("disk", MFD_CLOEXEC));
}

static void close_disks(struct snapshot_files *files)
{
    while (files->count > SNAPSHOT_FD_DISKS)
        close(files->fds[--files->count]);
}

static struct snapshot_files new_files(void)
{
    return (struct snapshot_files){ .fds = { memfd_create("state", MFD_CLOEXEC),
                                             memfd_create("memory", MFD_CLOEXEC) },
                                    .count = SNAPSHOT_FD_DISKS };
}

static void save(void *owner)
{
    struct moving *m = owner;
    char why[200];

    m->files = new_files();
    add_disks(&m->machine, &m->files);
    if (snapshot_save(&m->machine, &m->files, why, sizeof(why)) < 0)
        fail(m, why);
    close_disks(&m->files);
}

static void saved(struct moving *m)
{
    uint64_t took = clock_now_ns() - m->asked_ns;

    m->took_ns += took;
    if (took > m->longest_ns)
        m->longest_ns = took;
    m->moved++;
    lifecycle_leave(&m->life);
}

static void on_event(void *owner, enum life_event event, const char *name)
{
    struct moving *m = owner;

    switch (event) {
    case LIFE_HAS_PAUSED:
        if (!lifecycle_work(&m->life, save, m))
            fail(m, "the machine is not paused");
        break;
    case LIFE_CANNOT_PAUSE:
        fail(m, name);
        break;
    case LIFE_HAS_WORKED:
        saved(m);
        break;
    case LIFE_HAS_RESUMED:
    case LIFE_HAS_RESET:
        break;
    case LIFE_HAS_STOPPED:
        loop_stop(m->loop);
        break;
    }
}

static void move(struct watch *watch, short revents)
{
    struct moving *m = container_of(watch, struct moving, move);

    if (!alarm_expired(watch))
        return;
    m->asked_ns = clock_now_ns();
    lifecycle_pause(&m->life, PAUSE_MS);
}

static void leave(void *owner)
{
}

/* On a slow host the guest gets more time, so that it gets on. */
static unsigned longest_run(const struct moving *m)
{
    return LONGEST_RUN + (m->moved ? (unsigned)(m->took_ns / m->moved / 2000000) : 0);
}

static int run_machine(struct moving *m, const struct config *config, struct snapshot *snap)
{
    const struct life_client client = { .on_event = on_event, .owner = m };
    struct machine_host host = { .quit = leave };
    const struct life_end *end;
    int status = STATUS_FAILED;

    m->loop = loop_create();
    if (!m->loop || machine_describe(&m->machine, config) ||
        lifecycle_init(&m->life, &m->machine, m->loop, &client, true) ||
        alarm_open(&m->move, m->loop, move))
        return status;
    host.loop = m->loop;
    host.events = lifecycle_events(&m->life);
    machine_restore(&m->machine, snap);
    if (machine_create(&m->machine, &host) == 0 && lifecycle_start(&m->life) == 0) {
        m->seed = m->seed * 1664525 + 1013904223;
        if (m->moved < m->wanted)
            alarm_set(&m->move, 1 + (m->seed >> 16) % longest_run(m));
        else if (m->fd >= 0 && write(m->fd, "e", 1) < 0)
            m->failed = true;
        loop_run(m->loop);
        end = lifecycle_end(&m->life);
        status = end->reason == END_GUEST     ? boot_guest_status(end)
                 : end->reason == END_REQUEST ? (int)end->code
                                              : STATUS_FAILED;
    }
    machine_destroy(&m->machine);
    lifecycle_finish(&m->life);
    alarm_close(&m->move, m->loop);
    loop_destroy(m->loop);
    return status;
}

static bool same_memory(int a, int b, size_t size)
{
    const void *ours = mmap(NULL, size, PROT_READ, MAP_SHARED, a, 0);
    const void *theirs = mmap(NULL, size, PROT_READ, MAP_SHARED, b, 0);

    return ours != MAP_FAILED && theirs != MAP_FAILED && memcmp(ours, theirs, size) == 0 &&
           munmap((void *)ours, size) == 0 && munmap((void *)theirs, size) == 0;
}

/* Saves a machine that has been loaded and has not run, and compares. */
static bool save_again(struct machine *machine, const struct snapshot *snap)
{
    struct snapshot_files files = new_files();
    struct snapshot again;
    char why[300];
    bool same;

    add_disks(machine, &files);
    same = snapshot_save(machine, &files, why, sizeof(why)) == 0;
    close_disks(&files);

    if (same && snapshot_open_files(&again, &files, "the second snapshot") == 0) {
        same = same_state(snap->file.sections, snap->file.size, again.file.sections,
                          again.file.size, why, sizeof(why));
        if (same && !same_memory(snap->files.fds[SNAPSHOT_FD_MEMORY], files.fds[SNAPSHOT_FD_MEMORY],
                                 machine->config->memory)) {
            snprintf(why, sizeof(why), "RAM differs");
            same = false;
        }
        snapshot_close(&again);
    }
    if (!same)
        log_refuse(EINVAL, "saved again: %s", why);
    return same;
}

static void ignore(void *owner, enum guest_event event, unsigned code)
{
}

/* A machine of its own: its vCPUs do not run, and its devices neither. */
static bool check_again(const struct config *config, struct snapshot *snap)
{
    struct machine_host host = { .loop = loop_create(),
                                 .events = { .report = ignore },
                                 .quit = leave };
    struct machine machine;
    bool same = false;

    if (machine_describe(&machine, config) == 0) {
        machine_restore(&machine, snap);
        if (machine_create(&machine, &host) == 0) {
            machine_start_devices(&machine);
            machine.vm.restoring = true;
            same = vm_create(&machine.vm, machine.memory, machine.board.hardware.cpus) == 0 &&
                   vm_complete(&machine.vm) == 0 && snapshot_load(snap, &machine) == 0 &&
                   save_again(&machine, snap);
        }
    }
    machine_destroy(&machine);
    loop_destroy(host.loop);
    return same;
}

/* Its terminals are the first machine's. */
static bool load_config(struct snapshot *snap, struct config *config, const struct config *first)
{
    if (config_set_defaults(config) || snapshot_load_config(snap, config))
        return false;
    config->serial = first->serial;
    config->console = first->console;
    config->log_level = first->log_level;
    config->sandbox = first->sandbox;
    config->saves = true;
    return true;
}

/* Goes on in a new machine. */
static int run_next(struct moving *m, const struct config *first)
{
    struct snapshot_files again = m->files;
    struct snapshot snap, copy;
    struct config config, same;
    int status = STATUS_FAILED;

    for (unsigned i = 0; i < again.count; i++)
        again.fds[i] = dup(again.fds[i]);
    if (snapshot_open_files(&copy, &again, "the snapshot") ||
        snapshot_open_files(&snap, &m->files, "the snapshot"))
        return status;
    if (load_config(&copy, &same, first) && load_config(&snap, &config, first) &&
        (m->moved % CHECK_EVERY != 1 || check_again(&same, &copy)))
        status = run_machine(m, &config, &snap);
    snapshot_close(&copy);
    snapshot_close(&snap);
    config_finish(&same);
    config_finish(&config);
    return status;
}

static int run(struct moving *m, const struct config *config)
{
    unsigned moved = 0;
    int status = run_machine(m, config, NULL);

    while (m->moved > moved && !m->failed) {
        moved = m->moved;
        status = run_next(m, config);
    }
    return m->failed ? STATUS_FAILED : status;
}

int main(int argc, char **argv)
{
    static struct moving m;
    struct config config;
    int status;

    if (argc < 4)
        return STATUS_USAGE;
    m.wanted = (unsigned)atoi(argv[1]);
    m.seed = (uint32_t)atoi(argv[2]);
    m.fd = atoi(argv[3]);
    front_end_block_signals();
    if (config_parse(&config, NULL, argc - 3, argv + 3) != CONFIG_RUN)
        return STATUS_USAGE;
    config.saves = true;
    log_set_level(config.log_level);
    config.saves = true;
    status = run(&m, &config);
    fprintf(stderr, "moved %u times, %llu us each, at most %llu us\n", m.moved,
            (unsigned long long)(m.moved ? m.took_ns / m.moved / 1000 : 0),
            (unsigned long long)m.longest_ns / 1000);
    config_finish(&config);
    return status;
}
