/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_SNAPSHOT_H
#define VMM_MACHINE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/core/state.h"
#include "vmm/core/state_file.h"
#include "vmm/machine/snapshot_files.h"

/*
 * A machine frozen in files: its state (state_file.h), in the order configuration, disks,
 * devices, KVM; its RAM (memory_file.h); and a raw image of each disk that the guest can write. A
 * new process maps the RAM privately, builds the machine from the configuration and loads the rest,
 * so any number of machines may start from one snapshot: each has its writes to disks in memory.
 */
struct config;
struct machine;

struct snapshot {
    char name[256]; /* for messages */
    int directory;  /* -1: the files have been handed over, or are open */
    struct snapshot_files files;
    bool real_clock; /* the guest's clock goes on as if it had not stopped */
    struct state_file file;
    struct state state; /* being loaded */
    size_t machine_at;  /* where in the state all but the configuration begins */
};

/*
 * Opens DIR/state and DIR/memory and begins to load. The directory and all files must be the user's
 * own, or root's, and writable by nobody else. Prints; -errno. snapshot_close() is due in any case.
 */
int snapshot_open(struct snapshot *snap, const char *directory);
/* The same with a directory or files that are open, and become the snapshot's. */
int snapshot_open_at(struct snapshot *snap, int directory, const char *path);
int snapshot_open_files(struct snapshot *snap, const struct snapshot_files *files,
                        const char *name);
void snapshot_close(struct snapshot *snap);

/* Loads the configuration: first. Opens the disks that are there. Prints; -errno. */
int snapshot_load_config(struct snapshot *snap, struct config *config);

/* The RAM file's descriptor, which stays the snapshot's; -1: it is not open. */
int snapshot_memory(const struct snapshot *snap);

/* Whether the RAM file belongs to the state, and holds `size` bytes. Prints; -errno. */
int snapshot_check_memory(const struct snapshot *snap, unsigned long long size);

/*
 * From now on a SIGBUS says that the RAM file was truncated or cannot be read, before it ends the
 * process: whoever runs the machine must know that the file is in use as long as it runs.
 */
void snapshot_watch_memory(void);

/* Loads everything else into a new machine with its vCPUs and devices. Prints; -errno. */
int snapshot_load(struct snapshot *snap, struct machine *machine);

/*
 * Makes a paused machine what it was when it was restored: devices, disks, RAM and KVM's state. Its
 * configuration stays, and so does what it has written outside of the snapshot. Not on a loop's
 * thread. Prints nothing. -errno, with the reason in `why`; if that is -ECANCELED, the machine can
 * go on as if nothing had been asked, else it must not run again.
 */
int snapshot_rewind(struct machine *machine, char *why, size_t size);

/*
 * Saves a paused machine to empty files. Waits for the devices' loops and for the files: not on a
 * loop's thread. Prints nothing; -errno, with the reason in `why`.
 */
int snapshot_save(struct machine *machine, const struct snapshot_files *files, char *why,
                  size_t size);

#endif
