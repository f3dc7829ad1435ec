/* SPDX-License-Identifier: MIT */

/*
 * Accesses of every width to the PL011 and the PL031. Eight bytes of input are one access, a turn
 * of the loop, or a save and load of both chips with one damaged byte.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/chips/pl011.h"
#include "devices/chips/pl031.h"
#include "devices/console/terminal.h"
#include "tests/fuzz/reload.h"
#include "vmm/core/base.h"

#define BASE 0x9000000 /* of the PL011; the PL031 has the next page */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TURN, RELOAD };

struct access {
    uint8_t event, width;
    uint16_t offset;
    uint32_t value;
};

struct line {
    bool level;
    bool may_repeat; /* the level may be set again unchanged */
};

static void check_irq(void *owner, uint32_t pin, bool level)
{
    struct line *line = owner;

    if (line->level == level && !line->may_repeat)
        abort();
    line->level = level;
}

/* Half of the accesses are to the registers of the PL011. */
static void make_access(const struct bus *bus, const struct access *access)
{
    uint64_t offset = access->offset & 0x8000 ? access->offset & 0x7f : access->offset & 0x1fff;
    unsigned width = 1u << (access->width & 3);

    if (access->width & 0x80)
        bus_write(bus, BASE + offset, width, access->value);
    else if (width < 8 && bus_read(bus, BASE + offset, width) >> 8 * width != 0 &&
             bus_read(bus, BASE + offset, width) != UINT64_MAX)
        abort(); /* wider than the access */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct line line = { .may_repeat = false };
    const struct irq_line irq = { check_irq, &line, 1 };
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
        line.may_repeat = access.event == RELOAD;
        if (access.event == TURN)
            loop_turn(loop, 0);
        else if (access.event == RELOAD)
            reload_chips(chips, ARRAY_SIZE(chips), access.offset, (uint8_t)access.value);
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
