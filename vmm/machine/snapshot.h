/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_SNAPSHOT_H
#define VMM_MACHINE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/core/state.h"
#include "vmm/core/state_file.h"

/*
 * A machine frozen in two files: its state (state_file.h), in the order configuration, KVM,
 * devices; and its RAM (memory_file.h). A new process maps the RAM privately, builds the machine
 * from the configuration and loads the rest, so any number of machines may start from one snapshot.
 */
struct config;
struct machine;

struct snapshot {
    char name[256];  /* for messages */
    int memory;      /* the file */
    bool real_clock; /* the guest's clock goes on as if it had not stopped */
    struct state_file file;
    struct state state; /* being loaded */
};

/*
 * Opens DIR/state and DIR/memory and begins to load. Both must be the user's own, or root's, and
 * writable by nobody else. Prints; -errno. snapshot_close() is due in any case.
 */
int snapshot_open(struct snapshot *snap, const char *directory);
/* The same with open files, which become the snapshot's. */
int snapshot_open_files(struct snapshot *snap, int state, int memory, const char *name);
void snapshot_close(struct snapshot *snap);

/* Loads the configuration: first. Prints; -errno. */
int snapshot_load_config(struct snapshot *snap, struct config *config);

/* Whether the RAM file belongs to the state, and holds `size` bytes. Prints; -errno. */
int snapshot_check_memory(const struct snapshot *snap, unsigned long long size);

/* Loads everything else into a new machine with its vCPUs and devices. Prints; -errno. */
int snapshot_load(struct snapshot *snap, struct machine *machine);

/*
 * Saves a paused machine to two empty files. Waits for the devices' loops and for the files: not on
 * a loop's thread. Prints nothing; -errno, with the reason in `why`.
 */
int snapshot_save(struct machine *machine, int state, int memory, char *why, size_t size);

#endif
