/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_OPEN_H
#define VMM_CORE_OPEN_H

#include <sys/types.h>

/*
 * open() of an existing file with O_NONBLOCK added: the other end of a pipe, or a device, is not
 * waited for. Only a lease is (F_SETLEASE, as file servers take them on regular files), because its
 * holder then lets go of it, or loses it after /proc/sys/fs/lease-break-time seconds (45).
 * Returns the descriptor, or -1 with errno.
 */
int open_existing(const char *path, int flags);

/*
 * Opens or creates a file to write to, likewise without waiting: of a pipe that nobody reads it
 * fails with ENXIO. The descriptor itself blocks. `flags`: O_TRUNC or O_APPEND; `mode` of a new
 * file.
 */
int open_output(const char *path, int flags, mode_t mode);

/* Prints why open_output() failed, and what helps. Returns -errno. */
int open_error(const char *what, const char *path);

#endif
