/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_OPEN_H
#define VMM_CORE_OPEN_H

/*
 * open() of an existing file with O_NONBLOCK added: the other end of a pipe, or a device, is not
 * waited for. Only a lease is (F_SETLEASE, as file servers take them on regular files), because its
 * holder then lets go of it, or loses it after /proc/sys/fs/lease-break-time seconds (45).
 * Returns the descriptor, or -1 with errno.
 */
int open_existing(const char *path, int flags);

#endif
