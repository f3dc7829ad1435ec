/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_ROOT_H
#define FIRMWARE_INIT_ROOT_H

struct job;
struct message_sink;

/* Descriptors by which the kernel drops the names it has cached; close-on-exec. */
struct root_names {
    int overlay, lower;
};

/* Mounts what the init itself needs (/proc, /sys, /dev) in the initramfs; opens the sink's log. */
void root_mount_kernel(struct message_sink *sink);

/*
 * Makes the host's directory, under an overlay in memory, the root. Mounts there what programs
 * expect, the job's files and, so that no share is written to, at last its shares.
 */
void root_build(const struct message_sink *sink, const struct job *job, struct root_names *names);

/*
 * Drops all names of the root that are not in use. An overlay does not notice by itself that its
 * lower filesystem, the host's directory, changes.
 */
void root_drop_names(const struct root_names *names);

/* Unmounts the shares, as in job.h: when it returns, all changes are in the host's files. */
void root_unmount_shares(const struct message_sink *sink, const char **shares);

#endif
