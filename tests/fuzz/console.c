/* SPDX-License-Identifier: MIT */

/*
 * A hostile driver of virtio-console. Eight bytes of input are one descriptor or one action; the
 * whole input is also the console's input. The first byte says whether there are several ports. One
 * action moves the console to another machine, with one byte of its state corrupted.
 */
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "devices/virtio/console.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

enum { PUBLISH, KICK, TURN, LIE, RESET, CONFIG, RESIZE, SAY, MOVE = 0x40 };

#define FEATURES       0x83 /* of the first byte: passed on */
#define SEVERAL        0x08
#define PORTS          3
#define CONTROL_SENDER 3 /* a queue */
#define MESSAGE        (DRIVER_BUFFERS + 0x100)

/* The input as a file that is read from its beginning. */
static int typed(const uint8_t *data, size_t size)
{
    static int fd;

    if (!fd)
        fd = memfd_create("typed", MFD_CLOEXEC);
    demand(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    demand(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static uint64_t features(uint8_t byte)
{
    return (uint64_t)(byte & FEATURES) << 28 |
           (byte & SEVERAL ? BIT(VIRTIO_CONSOLE_F_MULTIPORT) : 0);
}

static void describe(struct driver *d, const uint8_t *bytes)
{
    /* Addresses in RAM, in the rings and beyond the end; lengths also above PORT_BYTES. */
    static const uint64_t places[] = { DRIVER_BUFFERS, 0x10000, DRIVER_RAM - 64, UINT64_MAX - 64 };
    uint64_t addr = places[bytes[1] & 3] + bytes[2];
    uint32_t len = (uint32_t)bytes[3] << (bytes[4] & 31);

    driver_describe(d, bytes[0] % d->device->queue_count, bytes[5] % DRIVER_QUEUE_SIZE, addr, len,
                    bytes[6] & 7, bytes[7]);
}

/* A well-formed control message with any contents. */
static void say(struct driver *d, const uint8_t *bytes)
{
    const uint8_t message[8] = { bytes[2], [4] = bytes[3], [6] = bytes[4] };

    if (d->device->queue_count <= CONTROL_SENDER)
        return;
    memcpy(driver_ram(d, MESSAGE), message, sizeof(message));
    driver_describe(d, CONTROL_SENDER, bytes[5] % DRIVER_QUEUE_SIZE, MESSAGE, sizeof(message), 0,
                    0);
    driver_publish(d, CONTROL_SENDER, bytes[5] % DRIVER_QUEUE_SIZE);
    driver_kick(d, CONTROL_SENDER);
}

/* The console's ports. Their terminals stay when it moves. */
struct ends {
    struct virtio_console_port ports[PORTS];
    unsigned count;
    bool moved; /* once a run: a second time tells nothing new, and takes long */
};

static struct virtio_device *create(struct driver *d, const struct ends *ends)
{
    struct virtio_device *device;

    if (virtio_console_create(&device, "console", ends->ports, ends->count, d->mem, d->loop) < 0)
        abort();
    return device;
}

static void walk(struct driver *d, struct state *s)
{
    state_section(s, "console", 1);
    virtio_state(d->device, s);
    state_end_section(s);
}

static void move(struct driver *d, const struct ends *ends, const uint8_t *bytes)
{
    struct state saved, s;

    if (virtio_pause(d->device, UINT64_MAX) < 0)
        abort();
    loop_turn(d->loop, 0);
    state_begin_save(&saved);
    walk(d, &saved);
    virtio_destroy(d->device);
    driver_find(d, create(d, ends));
    if (virtio_pause(d->device, UINT64_MAX) < 0)
        abort();
    saved.bytes[(bytes[2] | bytes[3] << 8) % saved.at] ^= bytes[4];
    state_begin_load(&s, saved.bytes, saved.at);
    walk(d, &s);
    state_finish(&saved);
    if (state_finish(&s) < 0)
        virtio_reset(d->device);
    virtio_resume(d->device);
}

static void act(struct driver *d, struct ends *ends, unsigned number, const uint8_t *bytes)
{
    const struct virtio_console_port *port = &ends->ports[number % ends->count];
    unsigned queue = bytes[2] % d->device->queue_count;
    uint8_t config[VIRTIO_MAX_CONFIG];

    switch (bytes[1] & (7 | MOVE)) {
    case MOVE:
        if (!ends->moved)
            move(d, ends, bytes);
        ends->moved = true;
        break;
    case PUBLISH:
        driver_publish(d, queue, bytes[3]);
        break;
    case KICK:
        driver_kick(d, queue);
        break;
    case TURN:
        loop_turn(d->loop, 0);
        break;
    case LIE:
        driver_set_avail_idx(d, queue, (uint16_t)(bytes[3] | bytes[4] << 8));
        break;
    case RESET:
        virtio_set_status(d->device, 0);
        driver_start(d, d->device, features(bytes[3]));
        break;
    case CONFIG:
        virtio_write_config(d->device, bytes[3], bytes[4], bytes[5]);
        virtio_read_config(d->device, config);
        break;
    case RESIZE:
        terminal_window_changed(port->terminal);
        break;
    case SAY:
        say(d, bytes);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ends ends = {
        { { .console = true }, { .name = "one" }, { .name = "two", .ordered = true } },
        .count = size > 0 && data[0] & SEVERAL ? PORTS : 1,
    };
    struct terminal_config config = { .input = typed(data, size), .output = -1 };
    static struct driver driver;

    log_set_level(LOG_LEVEL_ERROR);
    begin_driver(&driver);
    for (unsigned i = 0; i < ends.count; i++)
        if (terminal_create(&ends.ports[i].terminal, &config, driver.loop) < 0)
            abort();
    driver_start(&driver, create(&driver, &ends), size > 0 ? features(data[0]) : 0);

    for (size_t at = 0; size - at >= 8; at += 8) {
        if (data[at] & 0x80)
            act(&driver, &ends, (unsigned)at, data + at);
        else
            describe(&driver, data + at);
    }
    for (unsigned i = 0; i < 4; i++)
        loop_turn(driver.loop, 0);

    virtio_destroy(driver.device);
    for (unsigned i = 0; i < ends.count; i++)
        terminal_destroy(ends.ports[i].terminal, 0);
    return 0;
}
