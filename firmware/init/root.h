/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_ROOT_H
#define FIRMWARE_INIT_ROOT_H

struct voice;

/* The file systems that the init itself needs, where it is now. */
void root_mount_kernel(struct voice *voice);

/*
 * Makes the host's directory, under an overlay in memory, the root, and mounts in it what programs
 * expect, and `shares` as in orders.h.
 */
void root_build(const struct voice *voice, const char **shares);

/* What was written to shares is in the host's files when this returns. */
void root_leave(const struct voice *voice, const char **shares);

/* Puts a small file in place of what has its name. Notes why it cannot. */
void root_put_file(const struct voice *voice, const char *path, const char *content);

#endif
