/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_OPEN_H
#define VMM_CORE_OPEN_H

#include <sys/types.h>

/*
 * Opens the file of an O_PATH descriptor: in between, the caller has looked what it is. To open a
 * device or pipe can have effects, and whoever hands over a directory may put a link to one there.
 * `path` or NULL is where it was found: for want of /proc it is opened there. With O_NONBLOCK: only
 * a lease is waited for (F_SETLEASE, as file servers take them on regular files), because its
 * holder then lets go of it, or loses it after /proc/sys/fs/lease-break-time seconds (45). Returns
 * the descriptor, or -1 with errno.
 */
int open_known(int path_fd, const char *path, int flags);

/*
 * Opens or creates a file to write to, likewise without waiting: of a pipe that nobody reads it
 * fails with ENXIO. The descriptor itself blocks. `flags`: O_TRUNC or O_APPEND; `mode` of a new
 * file.
 */
int open_output(const char *path, int flags, mode_t mode);

/*
 * Closes all descriptors from `first` to `last`, as close_range(), which containers may forbid and
 * Linux has since 5.9. Without memory or locks, as a child calls it that shares ours.
 */
void open_close_range(unsigned first, unsigned last);

/* Prints why open_output() failed, and what helps. Returns -errno. */
int open_error(const char *what, const char *path);

/* A path of the file of a descriptor, for system calls that take none. */
struct fd_path {
    char text[32];
};
struct fd_path fd_path(int fd);

#endif
