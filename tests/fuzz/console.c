/* SPDX-License-Identifier: MIT */

/*
 * A hostile driver of virtio-console. Eight bytes of input are one descriptor or one action; the
 * whole input is also what is typed. The first byte says whether there are several ports.
 */
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/console/terminal.h"
#include "devices/virtio/console.h"
#include "tests/unit/driver.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PUBLISH, KICK, TURN, LIE, RESET, CONFIG, RESIZE, SAY };

#define FEATURES       0x83 /* of the first byte: passed on */
#define SEVERAL        0x08
#define PORTS          3
#define CONTROL_SENDER 3 /* a queue */
#define MESSAGE        (DRIVER_BUFFERS + 0x100)

static uint64_t features(uint8_t byte)
{
    return (uint64_t)(byte & FEATURES) << 28 |
           (byte & SEVERAL ? BIT(VIRTIO_CONSOLE_F_MULTIPORT) : 0);
}

static void describe(struct driver *d, const uint8_t *bytes)
{
    /* Places in RAM, the rings, and beyond the end; lengths up to more than a step of the console.
     */
    static const uint64_t places[] = { DRIVER_BUFFERS, 0x10000, DRIVER_RAM - 64, UINT64_MAX - 64 };
    uint64_t addr = places[bytes[1] & 3] + bytes[2];
    uint32_t len = (uint32_t)bytes[3] << (bytes[4] & 31);

    driver_describe(d, bytes[0] % d->device->queue_count, bytes[5] % DRIVER_QUEUE_SIZE, addr, len,
                    bytes[6] & 7, bytes[7]);
}

/* A control message that is well-formed, whatever it says. */
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

static void act(struct driver *d, const struct virtio_console_port *port, const uint8_t *bytes)
{
    unsigned queue = bytes[2] % d->device->queue_count;
    uint8_t config[VIRTIO_MAX_CONFIG];

    switch (bytes[1] & 7) {
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
    struct virtio_console_port ports[PORTS] = { { .console = true },
                                                { .name = "one" },
                                                { .name = "two", .ordered = true } };
    unsigned count = size > 0 && data[0] & SEVERAL ? PORTS : 1;
    struct terminal_config config = { .input = memfd_create("typed", MFD_CLOEXEC), .output = -1 };
    struct virtio_device *device;
    struct driver driver;

    log_set_level(LOG_LEVEL_ERROR);
    driver_init(&driver);
    if (pwrite(config.input, data, size, 0) != (ssize_t)size)
        abort();
    for (unsigned i = 0; i < count; i++)
        if (terminal_create(&ports[i].terminal, &config, driver.loop) < 0)
            abort();
    if (virtio_console_create(&device, "console", ports, count, driver.mem, driver.loop) < 0)
        abort();
    driver_start(&driver, device, size > 0 ? features(data[0]) : 0);

    for (size_t at = 0; size - at >= 8; at += 8) {
        if (data[at] & 0x80)
            act(&driver, &ports[at % count], data + at);
        else
            describe(&driver, data + at);
    }
    for (unsigned i = 0; i < 4; i++)
        loop_turn(driver.loop, 0);

    virtio_destroy(device);
    for (unsigned i = 0; i < count; i++)
        terminal_destroy(ports[i].terminal, 0);
    close(config.input);
    loop_destroy(driver.loop);
    guest_memory_destroy(driver.mem);
    return 0;
}
