/* SPDX-License-Identifier: MIT */

/*
 * Random accesses of every width to Arm's serial port and clock. Eight bytes of input are one
 * access, or a turn of the host's loop.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/chips/pl011.h"
#include "devices/chips/pl031.h"
#include "devices/console/terminal.h"
#include "vmm/core/base.h"

#define BASE 0x9000000 /* the port's page; the clock has the next one */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct access {
    uint8_t turn, width;
    uint16_t offset;
    uint32_t value;
};

static void check_irq(void *owner, uint32_t pin, bool level)
{
    bool *last = owner;

    if (*last == level)
        abort();
    *last = level;
}

/* Half of the offsets are those of a serial port's registers. */
static void make_access(const struct bus *bus, const struct access *access)
{
    uint64_t offset = access->offset & 0x8000 ? access->offset & 0x7f : access->offset & 0x1fff;
    unsigned width = 1u << (access->width & 3);

    if (access->width & 0x80)
        bus_write(bus, BASE + offset, width, access->value);
    else if (width < 8 && bus_read(bus, BASE + offset, width) >> 8 * width != 0 &&
             bus_read(bus, BASE + offset, width) != UINT64_MAX)
        abort(); /* more than was asked for */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool level = false;
    const struct irq_line irq = { check_irq, &level, 1 };
    int typed = memfd_create("typed", MFD_CLOEXEC);
    const struct terminal_config config = { .input = typed, .output = -1 };
    struct loop *loop = loop_create();
    struct terminal *terminal;
    struct bus bus = { 0 };
    struct chip *chips[2];
    struct access access;

    if (!loop || pwrite(typed, data, size, 0) != (ssize_t)size ||
        terminal_create(&terminal, &config, loop) < 0)
        abort();
    chips[0] = pl011_create("pl011", BASE, &irq, terminal);
    chips[1] = pl031_create("pl031", BASE + PL011_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        if (bus_map(&bus, &chips[i]->region) < 0)
            abort();
    for (size_t at = 0; size - at >= sizeof(access); at += sizeof(access)) {
        memcpy(&access, data + at, sizeof(access));
        if (access.turn == 0)
            loop_turn(loop, 0);
        else
            make_access(&bus, &access);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        chips[i]->device.ops->destroy(&chips[i]->device);
    terminal_destroy(terminal, 0);
    loop_destroy(loop);
    close(typed);
    return 0;
}
