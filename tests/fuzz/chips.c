/* SPDX-License-Identifier: MIT */

/*
 * Port accesses of every width to every chip. Six bytes of input are one access, and may request an
 * event: a turn of the loop, the power button, or a save and load of all chips with one damaged
 * byte.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/chips/acpi_power.h"
#include "devices/chips/debug_exit.h"
#include "devices/chips/i8042.h"
#include "devices/chips/i8254.h"
#include "devices/chips/mc146818.h"
#include "devices/chips/pm_timer.h"
#include "devices/chips/port92.h"
#include "devices/chips/pvpanic.h"
#include "devices/chips/uart16550.h"
#include "devices/console/terminal.h"
#include "tests/fuzz/reload.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ACCESS = 6, RELOAD = 0xd, TURN = 0xe, BUTTON = 0xf };

/* The interrupt controller. */
struct lines {
    bool levels[16];
    bool may_repeat; /* a level may be set again unchanged */
};

static void ignore_event(void *owner, enum guest_event event, unsigned code)
{
}

static void check_irq(void *owner, uint32_t pin, bool level)
{
    struct lines *lines = owner;

    if (lines->levels[pin] == level && !lines->may_repeat)
        abort();
    lines->levels[pin] = level;
}

/* A file to type from: the fuzzer's input. */
static int typed(const uint8_t *data, size_t size)
{
    int fd = memfd_create("typed", MFD_CLOEXEC);

    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    return fd;
}

static void access_port(const struct bus *bus, const uint8_t *bytes)
{
    static const uint16_t ports[2][8] = { { 0x60, 0x608, 0xf4, 0x3f8, 0x70, 0x92, 0x505, 0x600 },
                                          { 0x40, 0x40, 0x40, 0x60, 0x60, 0x70, 0x70, 0x70 } };
    uint64_t port = ports[bytes[1] >> 6 & 1][bytes[0] >> 5] + (bytes[0] >> 2 & 7);
    unsigned width = 1u << (bytes[0] & 3);
    uint32_t value;

    memcpy(&value, bytes + 2, sizeof(value));
    if (bytes[1] & 0x80)
        bus_write(bus, port, width, value);
    else if (width < 8 && bus_read(bus, port, width) >> 8 * width != 0 &&
             bus_read(bus, port, width) != UINT64_MAX)
        abort(); /* wider than the access */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lines lines = { .may_repeat = false };
    const struct irq_line com1 = { check_irq, &lines, 4 }, gpe = { check_irq, &lines, 9 };
    const struct event_sink sink = { ignore_event, NULL };
    const struct terminal_config config = { .input = typed(data, size), .output = -1 };
    struct loop *loop = loop_create();
    struct terminal *terminal;
    struct bus bus = { 0 };

    log_set_level(LOG_LEVEL_ERROR);
    if (!loop || terminal_create(&terminal, &config, loop) < 0)
        abort();

    struct chip *chips[] = {
        i8042_create("i8042", 0x64, &sink),
        debug_exit_create("debug-exit", 0xf4, &sink),
        pvpanic_create("pvpanic", 0x505, &sink),
        acpi_power_create("power", 0x600, &gpe, &sink),
        uart16550_create("serial0", 0x3f8, &com1, terminal),
        mc146818_create("rtc", 0x70),
        i8254_create("i8254", 0x40),
        pm_timer_create("pm-timer", 0x608),
        port92_create("port92", 0x92, &sink),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        if (bus_map(&bus, &chips[i]->region) < 0)
            abort();

    for (size_t at = 0; size - at >= ACCESS; at += ACCESS) {
        access_port(&bus, data + at);
        if ((data[at + 1] & 0xf) == TURN)
            loop_turn(loop, 0);
        else if ((data[at + 1] & 0xf) == BUTTON)
            acpi_power_press_button(chips[3]);
        lines.may_repeat = (data[at + 1] & 0xf) == RELOAD;
        if (lines.may_repeat)
            reload_chips(chips, ARRAY_SIZE(chips), (uint16_t)(data[at + 2] | data[at + 3] << 8),
                         data[at + 4]);
        lines.may_repeat = false;
    }

    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++) {
        chips[i]->device.ops->reset(&chips[i]->device);
        chips[i]->device.ops->destroy(&chips[i]->device);
    }
    if (lines.levels[4])
        abort(); /* reset must lower the line */
    terminal_destroy(terminal, 0);
    close(config.input);
    loop_destroy(loop);
    return 0;
}
