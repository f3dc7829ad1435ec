/* SPDX-License-Identifier: MIT */
#include "vmm/snapshot/show.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/config/config.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"
#include "vmm/machine/snapshot.h"

#define SHOWN_BYTES 32

static void show_bytes(const struct state_item *item)
{
    bool text = item->size > 1 && !item->bytes[item->size - 1];

    for (uint32_t i = 0; i + 1 < item->size && text; i++)
        text = item->bytes[i] >= ' ' && item->bytes[i] < 0x7f;
    if (text) {
        printf("%s\n", (const char *)item->bytes);
        return;
    }
    printf("%u bytes", item->size);
    for (uint32_t i = 0; i < item->size && i < SHOWN_BYTES; i++)
        printf("%s%02x", i ? " " : ": ", item->bytes[i]);
    printf("%s\n", item->size > SHOWN_BYTES ? " ..." : "");
}

/* Names are any bytes in a hostile file; terminals know more controls than ASCII's. */
static void show_name(const struct state_item *item)
{
    for (unsigned i = 0; i < item->name_length; i++)
        putchar(item->name[i] >= ' ' && item->name[i] < 0x7f ? item->name[i] : '?');
}

static void show_item(const struct state_item *item)
{
    if (!item->section)
        printf("  ");
    show_name(item);
    if (item->section) {
        printf(", version %llu\n", (unsigned long long)item->value);
        return;
    }
    printf(": ");
    if (item->bytes)
        show_bytes(item);
    else
        printf("%llu\n", (unsigned long long)item->value);
}

int snapshot_show(const char *directory)
{
    struct snapshot snap;
    struct state_item item;
    int more = 0, error = snapshot_open(&snap, directory);

    while (!error && (more = state_next(&snap.state, &item)) > 0)
        show_item(&item);
    if (more < 0)
        error = log_refuse(EINVAL, "%s: damaged", snap.name);
    snapshot_close(&snap);
    return error ? error : fflush(stdout) ? log_error(errno, "write") : 0;
}

static int show_check_disks(const struct snapshot *snap)
{
    for (unsigned i = SNAPSHOT_FD_DISKS; i < snap->files.count; i++)
        if (snap->files.fds[i] < 0)
            return log_refuse(ENOENT, "%s: the copy of a disk is missing", snap->name);
    return 0;
}

int snapshot_verify(const char *directory)
{
    struct config config;
    struct snapshot snap;
    struct state_item item;
    int more = 1, error = snapshot_open(&snap, directory);

    if (config_set_defaults(&config) < 0)
        error = -ENOMEM;
    if (!error && !(error = snapshot_load_config(&snap, &config)) &&
        !(error = snapshot_check_memory(&snap, config.memory)) &&
        !(error = show_check_disks(&snap)))
        while ((more = state_next(&snap.state, &item)) > 0)
            ;
    if (more < 0)
        error = log_refuse(EINVAL, "%s: damaged", snap.name);
    config_finish(&config);
    snapshot_close(&snap);
    return error;
}
