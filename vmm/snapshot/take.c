/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot/take.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/control/client.h"
#include "vmm/control/json.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/machine/snapshot.h"
#include "vmm/snapshot/directory.h"

static int take_create(const struct take_files *files, const char *name)
{
    int fd;

    if (files->directory)
        return directory_create(files->directory, name);
    fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 ? log_error(errno, "memory for a snapshot") : fd;
}

static int take_add(struct take_files *files, const char *name)
{
    int fd = files->count < TAKE_MAX_FILES ? take_create(files, name) : -EMFILE;

    if (fd < 0)
        return fd;
    files->fds[files->count++] = fd;
    return 0;
}

static int take_add_all(struct take_files *files, const struct json *config)
{
    const struct json *drives = json_member(config, "drives"), *drive;
    int error = take_add(files, SNAPSHOT_STATE);
    char name[32];

    if (!error)
        error = take_add(files, SNAPSHOT_MEMORY);
    for (unsigned i = 0; !error && (drive = json_entry(drives, i)); i++) {
        snprintf(name, sizeof(name), SNAPSHOT_DISK, i);
        if (!json_flag(json_member(drive, "is_read_only")))
            error = take_add(files, name);
    }
    return error;
}

int take_snapshot(const struct control_client *client, struct take_files *files, bool stop)
{
    cleanup_free char *answer = malloc(CONTROL_ANSWER_SIZE);
    struct json *config = NULL;
    char why[128];
    int error = answer ? control_ask(client, "GET", "/vm/config", NULL, NULL, 0, answer) : -ENOMEM;

    if (!error && !(config = json_read(answer, strlen(answer), why, sizeof(why))))
        error = log_refuse(EBADMSG, "the machine's answer cannot be understood: %s", why);
    if (!error)
        error = take_add_all(files, config);
    json_free(config);
    return error ? error
                 : control_ask(client, "PUT", "/snapshot/create", stop ? "{\"stop\":true}" : "{}",
                               files->fds, files->count, answer);
}

int take_sync(const struct take_files *files, const char *path)
{
    for (unsigned i = 0; i < files->count; i++)
        if (fsync(files->fds[i]) < 0)
            return log_error(errno, "write %s", path);
    return 0;
}

void take_close(struct take_files *files)
{
    while (files->count > 0)
        close(files->fds[--files->count]);
}
