/* SPDX-License-Identifier: MIT */
#ifndef VMM_SNAPSHOT_TAKE_H
#define VMM_SNAPSHOT_TAKE_H

#include <stdbool.h>

struct control_client;
struct draft;
struct snapshot_files;

/*
 * Has a machine write its snapshot, by its control socket: to new files in `draft`, or in memory,
 * NULL. `stop`: the machine then ends. json_open() comes first. Prints; -errno.
 * snapshot_files_close() is due in any case.
 */
int take_snapshot(const struct control_client *client, struct draft *draft, bool stop,
                  struct snapshot_files *ret);

#endif
