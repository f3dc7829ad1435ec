/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_GUEST_FILE_H
#define VMM_RUN_GUEST_FILE_H

#include <stdio.h>

/*
 * Host files that the guest will see below its root directory `root`, found by the path they have
 * there: symbolic links lead where they lead in the guest, never out of `root`. No messages.
 */

/* Opens with `flags` O_PATH or O_DIRECTORY. -errno. */
int guest_file_open(const char *root, const char *path, int flags);

/*
 * Opens a copy of a regular file for reading. Whoever made the root may change the file meanwhile,
 * or let it have no end: a copy has at most GUEST_FILE_MAX bytes. NULL with errno: ENOENT also if
 * it is no regular file, EFBIG.
 */
#define GUEST_FILE_MAX (16 << 20) /* lists of blocked hosts have a few MiB */
FILE *guest_file_read(const char *root, const char *path);

#endif
