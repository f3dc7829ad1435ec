/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_SNAPSHOT_FILES_H
#define VMM_MACHINE_SNAPSHOT_FILES_H

#include "firmware/hardware.h"

/*
 * The open files of a snapshot, in this order wherever they are handed over: state
 * (core/state_file.h), memory (core/memory_file.h), then a raw image of each disk that the guest
 * can write, in the order of the disks. -1: not there.
 */
enum { SNAPSHOT_FD_STATE, SNAPSHOT_FD_MEMORY, SNAPSHOT_FD_DISKS };

struct snapshot_files {
    int fds[SNAPSHOT_FD_DISKS + HARDWARE_MAX_VIRTIO];
    unsigned count;
};

/* Their names in the snapshot's directory. */
#define SNAPSHOT_STATE  "state"
#define SNAPSHOT_MEMORY "memory"
#define SNAPSHOT_DISK   "disk-%u" /* by the number of the disk */

/* Adds an open file. Prints and closes it if there is no room; -errno. */
int snapshot_files_add(struct snapshot_files *files, int fd);

void snapshot_files_close(struct snapshot_files *files);

#endif
