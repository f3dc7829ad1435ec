/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_ROOT_H
#define FIRMWARE_INIT_ROOT_H

struct job;
struct message_sink;

/* Mounts what the init itself needs (/proc, /sys, /dev) in the initramfs; opens the sink's log. */
void root_mount_kernel(struct message_sink *sink);

/*
 * Makes the host's directory, under an overlay in memory, the root. Mounts there what programs
 * expect, the job's files and, so that no share is written to, at last its shares.
 */
void root_build(const struct message_sink *sink, const struct job *job);

/* Unmounts the shares, as in job.h: when it returns, all changes are in the host's files. */
void root_unmount_shares(const struct message_sink *sink, const char **shares);

#endif
