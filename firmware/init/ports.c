/* SPDX-License-Identifier: MIT */
#include "firmware/init/ports.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "firmware/init/message.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"
#include "vmm/core/base.h"

#define PORTS_DIRECTORY  "/sys/class/virtio-ports/"
#define PORTS_TIMEOUT_MS 30000 /* enough for a host without KVM */

/* struct linux_dirent64, see getdents64(2). */
struct ports_entry {
    uint64_t inode, next;
    uint16_t size;
    uint8_t type;
    char name[];
};

/* Sleeps 1 ms, after the first 100 ms 10 ms; false: the time limit is over. */
static bool ports_wait(long start)
{
    long waited = sys_clock_ms() - start;

    sys_sleep_ms(waited < 100 ? 1 : 10);
    return waited < PORTS_TIMEOUT_MS;
}

static bool ports_has_name(const char *device, const char *wanted)
{
    struct text path = { .used = 0 };
    char name[64] = "";
    size_t length = strlen(wanted);
    long got;
    int fd;

    text_add(&path, PORTS_DIRECTORY);
    text_add(&path, device);
    text_add(&path, "/name");
    fd = sys_open(path.bytes, O_RDONLY);
    if (fd < 0)
        return false; /* the port has no name yet */
    got = sys_read(fd, name, sizeof(name) - 1);
    sys_close(fd);
    return got > 0 && (size_t)got <= length + 1 && !strncmp(name, wanted, length) &&
           (name[length] == '\n' || name[length] == '\0');
}

/* Appends the port's device name (vport0p1) to `path`; false: there is no such port yet. */
static bool ports_find(struct text *path, const char *name)
{
    _Alignas(struct ports_entry) char entries[1024];
    int fd = sys_open(PORTS_DIRECTORY, O_RDONLY | O_DIRECTORY);
    bool found = false;
    long got;

    while (fd >= 0 && !found && (got = sys_list(fd, entries, sizeof(entries))) > 0)
        for (long at = 0; at < got && !found;) {
            const struct ports_entry *entry = (const void *)(entries + at);

            found = entry->name[0] != '.' && ports_has_name(entry->name, name);
            if (found)
                text_add(path, entry->name);
            at += entry->size;
        }
    if (fd >= 0)
        sys_close(fd);
    return found;
}

void ports_check(const struct message_sink *sink)
{
    static const struct {
        const char *path, *driver;
    } needed[] = {
        { "/sys/bus/platform/drivers/virtio-mmio", "virtio_mmio" },
        { PORTS_DIRECTORY, "virtio_console" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(needed); i++) {
        int fd = sys_open(needed[i].path, O_RDONLY | O_DIRECTORY);

        if (fd < 0)
            message_fail(sink, 0, "this kernel has no ", needed[i].driver);
        sys_close(fd);
    }
}

int ports_open(const struct message_sink *sink, const char *name, int flags)
{
    long start = sys_clock_ms();
    int fd = -ENOENT;

    do {
        struct text path = { .used = 0 };

        text_add(&path, "/dev/");
        if (ports_find(&path, name))
            fd = sys_open(path.bytes, flags);
    } while (fd < 0 && ports_wait(start));
    if (fd < 0)
        message_fail(sink, fd, "no console port ", name);
    return fd;
}

int ports_open_terminal(const struct message_sink *sink, const char *name)
{
    long start = sys_clock_ms();
    struct text path = { .used = 0 };
    int fd;

    text_add(&path, "/dev/");
    text_add(&path, name);
    do
        fd = sys_open(path.bytes, O_RDWR | O_NOCTTY);
    while (fd < 0 && ports_wait(start));
    if (fd < 0)
        message_fail(sink, fd, "no terminal ", name);
    return fd;
}
