/* SPDX-License-Identifier: MIT */
#include "vmm/board/board.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/chips/chip.h"
#include "devices/chips/vmgenid.h"
#include "devices/net/net.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/virtio.h"
#include "vmm/board/consoles.h"
#include "vmm/core/base.h"
#include "vmm/core/device.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/seccomp.h"
#include "vmm/core/state.h"

int board_start(struct board *board)
{
    for (unsigned i = 0; i < board->loop_count; i++) {
        const struct board_loop *own = &board->loops[i];
        int error = loop_start(own->loop, own->name);

        if (error)
            return log_error(-error, "%s: start its thread%s", own->name,
                             seccomp_thread_hint(-error));
        if (own->started)
            loop_call(own->loop, own->started, own->device);
    }
    return 0;
}

void board_join(struct board *board)
{
    for (unsigned i = 0; i < board->loop_count; i++)
        loop_join(board->loops[i].loop);
}

void board_destroy(struct board *board)
{
    board_join(board);
    while (board->devices) {
        struct device *device = board->devices;

        board->devices = device->next;
        device->ops->destroy(device);
    }
    for (unsigned i = board->nics; i < ARRAY_SIZE(board->user_nets); i++)
        net_close(board->user_nets[i]);
    for (unsigned i = 0; i < board->loop_count; i++)
        loop_destroy(board->loops[i].loop);
    consoles_destroy(board);
    if (board->shadow.size)
        munmap(board->shadow.host, board->shadow.size);
}

void board_boot(struct board *board)
{
    if (board->vmgenid)
        vmgenid_write(board->vmgenid);
}

void board_reset(struct board *board)
{
    for (struct device *device = board->devices; device; device = device->next)
        device->ops->reset(device);
}

int board_pause(struct board *board, uint64_t deadline_ns, const char **ret_busy)
{
    for (struct device *device = board->devices; device; device = device->next) {
        int error = device->ops->pause(device, deadline_ns);

        if (!error)
            continue;
        *ret_busy = device->name;
        for (struct device *done = board->devices; done != device; done = done->next)
            done->ops->resume(done);
        return error;
    }
    return 0;
}

void board_resume(struct board *board)
{
    for (struct device *device = board->devices; device; device = device->next)
        device->ops->resume(device);
}

void board_state(struct board *board, struct state *s)
{
    for (struct device *device = board->devices; device; device = device->next)
        device->ops->state(device, s);
}

struct irq_line board_irq(const struct board *board, uint32_t gsi)
{
    struct irq_line line = board->host.irq;

    line.pin = gsi;
    return line;
}

static int board_add_device(struct board *board, struct device *device, struct bus *bus,
                            struct io_region *region)
{
    int error = bus ? bus_map(bus, region) : 0;

    device->next = board->devices;
    board->devices = device;
    return error ? log_error(-error, "%s: map its registers", device->name) : 0;
}

int board_add_chip(struct board *board, struct chip *chip, struct bus *bus)
{
    if (!chip)
        return log_error(ENOMEM, "create a device");
    return board_add_device(board, &chip->device, bus, &chip->region);
}

/* The device's shadow page. Allocates the pages of all devices with the first. */
static void *board_shadow(struct board *board, const struct hardware_device *place)
{
    const struct hardware_range *range = &board->hardware.virtio_pages;
    struct ram_region *shadow = &board->shadow;

    if (!shadow->size) {
        void *host =
            mmap(NULL, range->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (host == MAP_FAILED)
            return NULL;
        *shadow = (struct ram_region){ .base = range->base, .size = range->size, .host = host };
    }
    return (char *)shadow->host + (place->base - shadow->base);
}

int board_add_virtio(struct board *board, const struct hardware_device *place,
                     struct virtio_device *virtio)
{
    void *shadow = board_shadow(board, place);
    struct virtio_mmio *mmio;
    int error = shadow ? virtio_mmio_create(&mmio, virtio, place->base, place->gsi,
                                            &board->host.notifiers, shadow)
                       : log_error(ENOMEM, "%s: its registers", place->name);

    if (error) {
        virtio_destroy(virtio);
        return error;
    }
    return board_add_device(board, virtio_mmio_device(mmio), &board->mmio,
                            virtio_mmio_region(mmio));
}

struct board_loop *board_add_loop(struct board *board, const char *name)
{
    struct board_loop *own = &board->loops[board->loop_count];

    *own = (struct board_loop){ .loop = loop_create(), .name = name };
    if (!own->loop) {
        log_error(errno, "create an event loop");
        return NULL;
    }
    board->loop_count++;
    return own;
}
