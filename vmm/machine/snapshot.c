/* SPDX-License-Identifier: MIT */
#include "vmm/machine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/board/board.h"
#include "vmm/config/config.h"
#include "vmm/config/config_state.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/memory_file.h"
#include "vmm/kvm/arch.h"
#include "vmm/machine/machine.h"

/* Its state names files that are opened for the guest, so it is trusted like a command line. */
static int snapshot_check_owner(int fd, const char *directory, const char *file)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return log_error(errno, "%s/%s", directory, file);
    if ((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & (S_IWGRP | S_IWOTH))
        return log_refuse(EPERM, "%s/%s: another user may have written it; copy it if you trust it",
                          directory, file);
    return 0;
}

static int snapshot_open_file(const char *directory, const char *file)
{
    char path[4096];
    int error, fd;

    if (snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int)sizeof(path))
        return log_refuse(ENAMETOOLONG, "%s: too long", directory);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return log_error(errno, "open %s", path);
    error = snapshot_check_owner(fd, directory, file);
    if (error) {
        close(fd);
        return error;
    }
    return fd;
}

int snapshot_open_files(struct snapshot *snap, int state, int memory, const char *name)
{
    int error;

    *snap = (struct snapshot){ .memory = memory };
    snprintf(snap->name, sizeof(snap->name), "%s", name);
    error = state_file_read(state, snap->name, &snap->file);
    close(state);
    state_begin_load(&snap->state, snap->file.sections, snap->file.size);
    return error;
}

int snapshot_open(struct snapshot *snap, const char *directory)
{
    cleanup_close int state = -1;
    char name[sizeof(snap->name)];
    int memory;

    *snap = (struct snapshot){ .memory = -1 };
    state = snapshot_open_file(directory, "state");
    if (state < 0)
        return state;
    memory = snapshot_open_file(directory, "memory");
    if (memory < 0)
        return memory;
    snprintf(name, sizeof(name), "%s/state", directory);
    return snapshot_open_files(snap, take_fd(&state), memory, name);
}

void snapshot_close(struct snapshot *snap)
{
    if (snap->memory >= 0)
        close(snap->memory);
    state_file_free(&snap->file);
    snap->memory = -1;
}

/* Prints the first error of the state, if there is one. */
static int snapshot_check(struct snapshot *snap)
{
    const struct state *s = &snap->state;

    return s->error ? log_refuse(-s->error, "%s: %s", snap->name, s->why) : 0;
}

int snapshot_load_config(struct snapshot *snap, struct config *config)
{
    config_state(config, &snap->state);
    return snapshot_check(snap);
}

int snapshot_check_memory(const struct snapshot *snap, unsigned long long size)
{
    int error = memory_file_check(snap->memory, size, snap->file.id);

    if (error == -ESTALE)
        return log_refuse(EINVAL, "%s: the memory beside it is another snapshot's", snap->name);
    if (error == -EINVAL)
        return log_refuse(EINVAL, "%s: the memory beside it is damaged or truncated", snap->name);
    return error ? log_error(-error, "%s: the memory beside it", snap->name) : 0;
}

int snapshot_load(struct snapshot *snap, struct machine *machine)
{
    machine->vm.real_time = snap->real_clock;
    arch_vm_state(&machine->vm, &snap->state);
    board_state(&machine->board, &snap->state);
    state_finish(&snap->state);
    return snapshot_check(snap);
}

int snapshot_save(struct machine *machine, int state, int memory, char *why, size_t size)
{
    uint8_t id[SNAPSHOT_ID_SIZE];
    struct state s;
    int error;

    if (getrandom(id, sizeof(id), 0) != sizeof(id))
        memset(id, 0, sizeof(id)); /* cannot fail */
    state_begin_save(&s);
    config_state((struct config *)machine->config, &s); /* saving changes nothing */
    arch_vm_state(&machine->vm, &s);
    board_state(&machine->board, &s);
    error = s.error;
    if (error)
        snprintf(why, size, "%s", s.why);
    else if ((error = state_file_write(state, &s, id)))
        snprintf(why, size, "write the state: %s", strerror(-error));
    else if ((error = memory_file_write(machine->memory, memory, machine->page_map, id)))
        snprintf(why, size, "write the memory: %s", strerror(-error));
    state_finish(&s);
    return error;
}
