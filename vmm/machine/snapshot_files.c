/* SPDX-License-Identifier: MIT */
#include "vmm/machine/snapshot_files.h"

#include <errno.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/log.h"

int snapshot_files_add(struct snapshot_files *files, int fd)
{
    if (files->count < ARRAY_SIZE(files->fds)) {
        files->fds[files->count++] = fd;
        return 0;
    }
    close(fd);
    return log_refuse(EMFILE, "a snapshot of more disks than a machine has");
}

void snapshot_files_close(struct snapshot_files *files)
{
    while (files->count > 0)
        if (files->fds[--files->count] >= 0)
            close(files->fds[files->count]);
}
