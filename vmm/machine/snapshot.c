/* SPDX-License-Identifier: MIT */
#include "vmm/machine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/console/terminal.h"
#include "vmm/board/board.h"
#include "vmm/config/config.h"
#include "vmm/config/config_state.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/memory_file.h"
#include "vmm/kvm/arch.h"
#include "vmm/machine/machine.h"

/* For messages: `snap->name` is DIR/state. */
static void snapshot_path(const struct snapshot *snap, const char *file, char path[static PATH_MAX])
{
    const char *end = strrchr(snap->name, '/'); /* NULL: it had no room for that */
    size_t directory = end ? (size_t)(end - snap->name) : strlen(snap->name);

    snprintf(path, PATH_MAX, "%.*s/%s", (int)directory, snap->name, file);
}

/* Its state names files that are opened for the guest, so it is trusted like a command line. */
static int snapshot_check_owner(int fd, const char *path)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return log_error(errno, "%s", path);
    if ((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & (S_IWGRP | S_IWOTH))
        return log_refuse(EPERM, "%s: another user may have written it; copy it if you trust it",
                          path);
    return 0;
}

/* Adds a file of the directory; -1 for one that `may_lack` and is not there. */
static int snapshot_open_file(struct snapshot *snap, const char *file, bool may_lack)
{
    cleanup_close int fd = openat(snap->directory, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char path[PATH_MAX];
    int error;

    snapshot_path(snap, file, path);
    if (fd < 0 && !(errno == ENOENT && may_lack))
        return log_error(errno, "open %s", path);
    if (fd >= 0 && (error = snapshot_check_owner(fd, path)))
        return error;
    return snapshot_files_add(&snap->files, take_fd(&fd));
}

static int snapshot_begin(struct snapshot *snap)
{
    int *state = &snap->files.fds[SNAPSHOT_FD_STATE], error;

    error = state_file_read(*state, snap->name, &snap->file);
    close(*state);
    *state = -1;
    state_begin_load(&snap->state, snap->file.sections, snap->file.size);
    return error;
}

int snapshot_open_files(struct snapshot *snap, const struct snapshot_files *files, const char *name)
{
    *snap = (struct snapshot){ .directory = -1, .files = *files };
    snprintf(snap->name, sizeof(snap->name), "%s", name);
    return snapshot_begin(snap);
}

int snapshot_open_at(struct snapshot *snap, int directory, const char *path)
{
    int error;

    *snap = (struct snapshot){ .directory = directory };
    snprintf(snap->name, sizeof(snap->name), "%s/" SNAPSHOT_STATE, path);
    error = snapshot_check_owner(directory, path);
    if (!error)
        error = snapshot_open_file(snap, SNAPSHOT_STATE, false);
    if (!error)
        error = snapshot_open_file(snap, SNAPSHOT_MEMORY, false);
    return error ? error : snapshot_begin(snap);
}

int snapshot_open(struct snapshot *snap, const char *directory)
{
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    *snap = (struct snapshot){ .directory = -1 };
    return fd < 0 ? log_error(errno, "open %s", directory) : snapshot_open_at(snap, fd, directory);
}

static void snapshot_close_directory(struct snapshot *snap)
{
    if (snap->directory >= 0)
        close(snap->directory);
    snap->directory = -1;
}

void snapshot_close(struct snapshot *snap)
{
    snapshot_close_directory(snap);
    snapshot_files_close(&snap->files);
    state_file_free(&snap->file);
}

/* Prints the first error of the state, if there is one. */
static int snapshot_check(struct snapshot *snap)
{
    const struct state *s = &snap->state;

    return s->error ? log_refuse(-s->error, "%s: %s", snap->name, s->why) : 0;
}

/* One that another image replaces may be gone. */
static int snapshot_open_disks(struct snapshot *snap, const struct config *config)
{
    unsigned number = 0;
    char name[32];
    int error = 0;

    for (const struct disk_config *disk = config->disks; disk && !error; disk = disk->next) {
        snprintf(name, sizeof(name), SNAPSHOT_DISK, number++);
        if (!disk->image.read_only)
            error = snapshot_open_file(snap, name, true);
    }
    return error;
}

int snapshot_load_config(struct snapshot *snap, struct config *config)
{
    int error;

    config_state(config, &snap->state);
    snap->machine_at = snap->state.at;
    error = snapshot_check(snap);
    if (!error && snap->directory >= 0)
        error = snapshot_open_disks(snap, config);
    snapshot_close_directory(snap);
    return error;
}

int snapshot_memory(const struct snapshot *snap)
{
    return snap->files.count > SNAPSHOT_FD_MEMORY ? snap->files.fds[SNAPSHOT_FD_MEMORY] : -1;
}

int snapshot_check_memory(const struct snapshot *snap, unsigned long long size)
{
    int error = memory_file_check(snapshot_memory(snap), size, snap->file.id);

    if (error == -ESTALE)
        return log_refuse(EINVAL, "%s: the memory beside it is another snapshot's", snap->name);
    if (error == -EINVAL)
        return log_refuse(EINVAL, "%s: the memory beside it is damaged or truncated", snap->name);
    return error ? log_error(-error, "%s: the memory beside it", snap->name) : 0;
}

/* In the thread that touched the page; SA_RESETHAND has restored the default action. */
static void snapshot_on_lost_memory(int signal)
{
    static const char text[] =
        "minivmm: the snapshot's memory was truncated or cannot be read; machines that were "
        "restored need the file as it was\r\n";

    terminal_restore_all();
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        signal = SIGBUS; /* nowhere to report this */
    raise(signal);
}

void snapshot_watch_memory(void)
{
    const struct sigaction action = { .sa_handler = snapshot_on_lost_memory,
                                      .sa_flags = SA_RESETHAND };

    sigaction(SIGBUS, &action, NULL);
}

/* Copied inside the pause, where the file system cannot share blocks. */
#define SNAPSHOT_MAX_COPY (4 * GIB)

/* A read-only image is not part of the snapshot: it must be the same when that is loaded. */
static void snapshot_disk_state(const struct block *disk, bool trusted, struct state *s)
{
    uint64_t size = disk->size, saved = size, changed_s = 0, changed_ns = 0, now_s, now_ns;
    struct stat st = { .st_size = 0 };

    if (disk->read_only && fstat(block_descriptor(disk), &st) < 0)
        state_fail(s, "a disk: %s", strerror(errno));
    now_s = changed_s = (uint64_t)st.st_mtim.tv_sec;
    now_ns = changed_ns = (uint64_t)st.st_mtim.tv_nsec;
    state_u64(s, "size", &saved);
    state_u64(s, "changed_s", &changed_s);
    state_u64(s, "changed_ns", &changed_ns);
    if (!s->loading || s->error)
        return;
    if (saved != size)
        state_fail(s, "a disk has %llu bytes, and had %llu", (unsigned long long)size,
                   (unsigned long long)saved);
    else if (!trusted && (now_s != changed_s || now_ns != changed_ns))
        state_fail(s, "a read-only disk has changed since the snapshot; --disk N:FILE names "
                      "another, with the same contents");
}

static void snapshot_disks_state(struct machine *machine, struct state *s)
{
    const struct disk_config *config = machine->config->disks;
    struct board *board = &machine->board;

    state_section(s, "disks", 1);
    for (unsigned i = 0; i < board->disk_count; i++, config = config->next)
        snapshot_disk_state(board->disks[i], config->replaced, s);
    state_end_section(s);
}

int snapshot_load(struct snapshot *snap, struct machine *machine)
{
    machine->vm.real_time = snap->real_clock;
    snapshot_disks_state(machine, &snap->state);
    board_state(&machine->board, &snap->state);
    arch_vm_state(&machine->vm, &snap->state);
    state_finish(&snap->state);
    return snapshot_check(snap);
}

static int snapshot_save_disks(struct machine *machine, const struct snapshot_files *files,
                               char *why, size_t size)
{
    const struct board *board = &machine->board;
    unsigned file = SNAPSHOT_FD_DISKS;

    for (unsigned i = 0; i < board->disk_count; i++) {
        int error;

        if (board->disks[i]->read_only)
            continue;
        error = file < files->count
                    ? block_copy(board->disks[i], files->fds[file], SNAPSHOT_MAX_COPY)
                    : -EBADF;
        file++;
        if (error == -EFBIG)
            snprintf(why, size,
                     "disk %u: more than %llu MiB to copy; on a file system that shares blocks, as "
                     "btrfs and xfs do, nothing is copied",
                     i, (unsigned long long)(SNAPSHOT_MAX_COPY / MIB));
        else if (error)
            snprintf(why, size, "disk %u: %s", i, strerror(-error));
        if (error)
            return error;
    }
    return 0;
}

int snapshot_save(struct machine *machine, const struct snapshot_files *files, char *why,
                  size_t size)
{
    uint8_t id[SNAPSHOT_ID_SIZE];
    struct state s;
    int state = files->fds[SNAPSHOT_FD_STATE], memory = files->fds[SNAPSHOT_FD_MEMORY], error;

    if (getrandom(id, sizeof(id), 0) != sizeof(id))
        memset(id, 0, sizeof(id)); /* cannot fail */
    state_begin_save(&s);
    config_state((struct config *)machine->config, &s); /* saving changes nothing */
    snapshot_disks_state(machine, &s);
    board_state(&machine->board, &s); /* first: it has KVM inject what irqfds were signalled */
    arch_vm_state(&machine->vm, &s);
    error = s.error;
    if (error)
        snprintf(why, size, "%s", s.why);
    else if ((error = state_file_write(state, &s, id)))
        snprintf(why, size, "write the state: %s", strerror(-error));
    else if ((error = memory_file_write(machine->memory, memory, machine->page_map, id)))
        snprintf(why, size, "write the memory: %s", strerror(-error));
    else
        error = snapshot_save_disks(machine, files, why, size);
    state_finish(&s);
    return error;
}

/* Before anything is changed: whether all can be. */
static const char *rewind_obstacle(const struct machine *machine)
{
    const struct ram_region *ram = guest_memory_region(machine->memory, 0);

    if (!machine->origin)
        return "it was not restored; take a snapshot, and rewind a machine that minivmm restore "
               "starts from that";
    if (ram->backing.kind != MEMORY_PRIVATE_FILE)
        return "it has been reset since it was restored; start another with minivmm restore";
    if (machine->config->nets)
        return "it has a NIC, whose other side would go on; start another with minivmm restore";
    if (machine->config->shares)
        return "it has a shared directory, whose files would stay; start another with minivmm "
               "restore";
    for (unsigned i = 0; i < machine->board.disk_count; i++)
        if (!block_can_rewind(machine->board.disks[i]))
            return "what it writes to a disk stays; restore it without --disk";
    return NULL;
}

static int rewind_disks(struct board *board)
{
    int error = 0;

    for (unsigned i = 0; i < board->disk_count && !error; i++)
        error = block_rewind(board->disks[i]);
    return error;
}

/* In the order of a start: devices as they are when they were created, RAM, their state, KVM's. */
static int rewind_all(struct machine *machine, struct state *s, char *why, size_t size)
{
    int error;

    board_reset(&machine->board);
    error = rewind_disks(&machine->board);
    if (!error)
        error = memory_file_rewind(machine->memory, machine->page_map);
    if (error) {
        snprintf(why, size, "give its memory back: %s", strerror(-error));
        return error;
    }
    board_state(&machine->board, s);
    machine->vm.rewinding = true;
    arch_vm_state(&machine->vm, s);
    machine->vm.rewinding = false;
    error = state_finish(s);
    if (error)
        snprintf(why, size, "%s", s->why);
    return error;
}

int snapshot_rewind(struct machine *machine, char *why, size_t size)
{
    const struct snapshot *snap = machine->origin;
    const char *obstacle = rewind_obstacle(machine);
    struct state s;

    if (obstacle) {
        snprintf(why, size, "%s", obstacle);
        return -ECANCELED;
    }
    state_begin_load(&s, snap->file.sections, snap->file.size);
    s.at = snap->machine_at;
    snapshot_disks_state(machine, &s);
    if (s.error) {
        snprintf(why, size, "%s", s.why);
        return -ECANCELED;
    }
    return rewind_all(machine, &s, why, size);
}
