/* SPDX-License-Identifier: MIT */
#ifndef VMM_SNAPSHOT_TAKE_H
#define VMM_SNAPSHOT_TAKE_H

#include <stdbool.h>

/* Has a machine write its snapshot, by its control socket. json_open() comes first. */
struct control_client;
struct directory;

#define TAKE_MAX_FILES 64

struct take_files {
    struct directory *directory; /* where they are made; NULL: in memory */
    int fds[TAKE_MAX_FILES];     /* state, memory, then each disk that the guest can write */
    unsigned count;
};

/* Makes the files and has them written; `stop`: the machine then ends. Prints; -errno. */
int take_snapshot(const struct control_client *client, struct take_files *files, bool stop);

/* Waits until they are on the disk. `path` is for messages. Prints; -errno. */
int take_sync(const struct take_files *files, const char *path);

void take_close(struct take_files *files); /* also after an error */

#endif
