/* SPDX-License-Identifier: MIT */
#include "devices/virtio/console.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/terminal.h"
#include "vmm/base.h"
#include "vmm/endian.h"

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUE_COUNT };

/* How much is done before other devices have their turn on the loop. */
#define CONSOLE_STEPS 32
#define CONSOLE_STEP  (4 * KIB) /* bytes sent in one */

#define CONSOLE_SIZE_MS 100 /* how often the size is announced at most, see below */

/* Virtio 1.2, 5.3.4. */
struct console_config {
    le16 columns;
    le16 rows;
    le32 ports;
    le32 emergency_write;
};

static_assert(sizeof(struct console_config) == sizeof(struct virtio_console_config),
              "as Linux has it");

struct virtio_console {
    struct virtio_device virtio;
    struct terminal *terminal;
    bool has_size; /* found out once: features do not come and go */
    bool sending;  /* `transmit` holds a request of which not all is written */
    uint64_t announced_ms;
    struct virtq_chain transmit;
    struct virtq_chain receive;
};

/* False if the terminal could not take all of what it was offered. */
static bool console_send(struct virtio_console *console)
{
    struct sg rest = console->transmit.readable;
    uint8_t bytes[CONSOLE_STEP];
    size_t size = rest.length < sizeof(bytes) ? rest.length : sizeof(bytes);
    size_t taken;

    sg_read(&rest, bytes, size);
    taken = terminal_try_write(console->terminal, bytes, size);
    sg_skip(&console->transmit.readable, taken);
    return taken == size;
}

/*
 * Linux looks at the size only when it is told of a change, and drops it while it is still setting
 * up the console, which may print the whole log. So output repeats the news now and then.
 */
static void console_announce_size(struct virtio_console *console)
{
    struct timespec now;
    uint64_t now_ms;

    clock_gettime(CLOCK_MONOTONIC, &now);
    now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (!console->has_size || now_ms - console->announced_ms < CONSOLE_SIZE_MS)
        return;
    console->announced_ms = now_ms;
    virtio_config_changed(&console->virtio);
}

static void console_transmit(struct virtio_console *console)
{
    struct virtq *q = virtio_virtq(&console->virtio, QUEUE_TRANSMIT);
    unsigned steps = 0;
    bool room = true;

    while (room && steps < CONSOLE_STEPS &&
           (console->sending || virtq_pop(q, &console->transmit))) {
        room = console_send(console);
        console->sending = console->transmit.readable.length > 0;
        if (!console->sending)
            virtq_push(q, &console->transmit, 0);
        steps++;
    }
    virtq_flush(q);
    if (steps > 0)
        console_announce_size(console);
    if (room && (steps == CONSOLE_STEPS || !virtq_park(q)))
        virtio_kick(&console->virtio, QUEUE_TRANSMIT); /* the rest in the loop's next round */
}

static size_t console_input(void *owner, const uint8_t *bytes, size_t count)
{
    struct virtio_console *console = owner;
    struct virtq *q = virtio_virtq(&console->virtio, QUEUE_RECEIVE);
    size_t taken = 0;
    unsigned steps = 0;

    while (taken < count && steps < CONSOLE_STEPS && virtq_pop(q, &console->receive)) {
        struct sg *room = &console->receive.writable;
        size_t size = room->length < count - taken ? room->length : count - taken;

        sg_write(room, bytes + taken, size);
        virtq_push(q, &console->receive, (uint32_t)size);
        taken += size;
        steps++;
    }
    virtq_flush(q);
    if (taken < count && (steps == CONSOLE_STEPS || !virtq_park(q)))
        virtio_kick(&console->virtio, QUEUE_RECEIVE); /* again, in the loop's next round */
    return taken;
}

static void console_writable(void *owner)
{
    console_transmit(owner);
}

static void console_resized(void *owner)
{
    struct virtio_console *console = owner;

    if (console->has_size)
        virtio_config_changed(&console->virtio);
}

static uint64_t console_features(struct virtio_device *v)
{
    const struct virtio_console *console = container_of(v, struct virtio_console, virtio);

    return 1ull << VIRTIO_CONSOLE_F_EMERG_WRITE | (uint64_t)console->has_size
                                                      << VIRTIO_CONSOLE_F_SIZE;
}

static void console_read_config(struct virtio_device *v, void *config)
{
    struct virtio_console *console = container_of(v, struct virtio_console, virtio);
    struct console_config fields = { 0 };
    uint16_t columns, rows;

    if (terminal_size(console->terminal, &columns, &rows)) {
        le16_store(&fields.columns, columns);
        le16_store(&fields.rows, rows);
    }
    memcpy(config, &fields, sizeof(fields));
}

/* A guest that cannot use its queues, or not yet, writes characters here one by one. */
static void console_write_config(struct virtio_device *v, unsigned offset, unsigned size,
                                 uint64_t value)
{
    struct virtio_console *console = container_of(v, struct virtio_console, virtio);
    uint8_t byte = (uint8_t)value;

    if (offset == offsetof(struct console_config, emergency_write))
        terminal_try_write(console->terminal, &byte, 1);
}

static void console_kick(struct virtio_device *v, unsigned queue)
{
    struct virtio_console *console = container_of(v, struct virtio_console, virtio);

    if (queue == QUEUE_TRANSMIT)
        console_transmit(console);
    else
        terminal_take_input(console->terminal);
}

static void console_stop(struct virtio_device *v)
{
    container_of(v, struct virtio_console, virtio)->sending = false;
}

static void console_destroy(struct virtio_device *v)
{
    struct virtio_console *console = container_of(v, struct virtio_console, virtio);

    terminal_set_client(console->terminal, NULL);
    free(console);
}

static const struct virtio_ops console_ops = {
    .type = VIRTIO_ID_CONSOLE,
    .queues = QUEUE_COUNT,
    .queue_size = 64,
    .config_size = sizeof(struct console_config),
    .features = console_features,
    .read_config = console_read_config,
    .write_config = console_write_config,
    .stop = console_stop,
    .kick = console_kick,
    .destroy = console_destroy,
};

int virtio_console_create(struct virtio_device **ret, const char *name, struct terminal *terminal,
                          const struct guest_memory *mem, struct loop *loop)
{
    struct virtio_console *console = calloc(1, sizeof(*console));
    uint16_t columns, rows;
    int error;

    if (!console)
        return -ENOMEM;
    error = virtio_init(&console->virtio, &console_ops, name, mem, loop);
    if (error < 0) {
        free(console);
        return error;
    }

    console->terminal = terminal;
    console->has_size = terminal_size(terminal, &columns, &rows);
    terminal_set_client(terminal, &(struct terminal_client){ .input = console_input,
                                                             .writable = console_writable,
                                                             .resized = console_resized,
                                                             .owner = console });
    *ret = &console->virtio;
    return 0;
}
