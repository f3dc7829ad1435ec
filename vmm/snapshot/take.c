/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot/take.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/control/client.h"
#include "vmm/control/json.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/machine/snapshot_files.h"
#include "vmm/snapshot/draft.h"

static int take_add(struct snapshot_files *files, struct draft *draft, const char *name)
{
    int fd =
        draft ? draft_create(draft, name) : memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return draft ? fd : log_error(errno, "memory for a snapshot");
    return snapshot_files_add(files, fd);
}

static int take_add_all(struct snapshot_files *files, struct draft *draft,
                        const struct json *config)
{
    const struct json *drives = json_member(config, "drives"), *drive;
    int error = take_add(files, draft, SNAPSHOT_STATE);
    char name[32];

    if (!error)
        error = take_add(files, draft, SNAPSHOT_MEMORY);
    for (unsigned i = 0; !error && (drive = json_entry(drives, i)); i++) {
        snprintf(name, sizeof(name), SNAPSHOT_DISK, i);
        if (!json_flag(json_member(drive, "is_read_only")))
            error = take_add(files, draft, name);
    }
    return error;
}

int take_snapshot(const struct control_client *client, struct draft *draft, bool stop,
                  struct snapshot_files *ret)
{
    cleanup_free char *answer = malloc(CONTROL_ANSWER_SIZE);
    struct json *config = NULL;
    char why[128];
    int error = answer ? control_ask(client, "GET", "/vm/config", NULL, NULL, 0, answer) : -ENOMEM;

    *ret = (struct snapshot_files){ .count = 0 };
    if (!error && !(config = json_read(answer, strlen(answer), why, sizeof(why))))
        error = log_refuse(EBADMSG, "the machine's answer cannot be understood: %s", why);
    if (!error)
        error = take_add_all(ret, draft, config);
    json_free(config);
    return error ? error
                 : control_ask(client, "PUT", "/snapshot/create", stop ? "{\"stop\":true}" : "{}",
                               ret->fds, ret->count, answer);
}
