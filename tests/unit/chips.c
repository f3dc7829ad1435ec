/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "devices/chips/acpi_power.h"
#include "devices/chips/debug_exit.h"
#include "devices/chips/i8042.h"
#include "devices/chips/port92.h"
#include "devices/chips/pvpanic.h"
#include "firmware/tables/acpi_registers.h"
#include "tests/unit/saved.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"

/* The events and interrupts of the chips. */
struct recorded {
    unsigned events;
    enum guest_event event;
    unsigned code;
    unsigned edges;
    bool level;
};

static void record_event(void *owner, enum guest_event event, unsigned code)
{
    struct recorded *recorded = owner;

    recorded->events++;
    recorded->event = event;
    recorded->code = code;
}

static void record_irq(void *chip, uint32_t pin, bool level)
{
    struct recorded *recorded = chip;

    recorded->edges += level && !recorded->level;
    recorded->level = level;
}

static struct recorded recorded;
static struct bus bus;
static struct chip *chips[5];

enum { I8042, DEBUG_EXIT, PVPANIC, POWER, PORT92 };
static const uint64_t bases[] = { 0x64, 0xf4, 0x505, 0x600, 0x92 };

static void set_up(void)
{
    const struct event_sink sink = { record_event, &recorded };
    const struct irq_line irq = { record_irq, &recorded, 9 };

    log_set_level(LOG_LEVEL_ERROR);
    recorded = (struct recorded){ 0 };
    bus = (struct bus){ 0 };
    chips[I8042] = i8042_create("i8042", bases[I8042], &sink);
    chips[DEBUG_EXIT] = debug_exit_create("debug-exit", bases[DEBUG_EXIT], &sink);
    chips[PVPANIC] = pvpanic_create("pvpanic", bases[PVPANIC], &sink);
    chips[PORT92] = port92_create("port92", bases[PORT92], &sink);
    chips[POWER] = acpi_power_create("power", bases[POWER], &irq, &sink);
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        ck_assert_int_eq(bus_map(&bus, &chips[i]->region), 0);
}

static void tear_down(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        chips[i]->device.ops->destroy(&chips[i]->device);
}

enum { NOTHING = -1 };

static const struct {
    uint64_t port;
    unsigned size;
    uint32_t value;
    int event;
    unsigned code;
} writes[] = {
    { 0x64, 1, 0xfe, GUEST_RESET, 0 },
    { 0x64, 1, 0xfd, NOTHING, 0 },
    { 0x64, 1, 0, NOTHING, 0 },
    { 0x64, 2, 0xfe, NOTHING, 0 }, /* crosses the end of the region */
    { 0x60, 1, 0xfe, NOTHING, 0 },
    { 0x61, 1, 0xfe, NOTHING, 0 },
    { 0x92, 1, 1, GUEST_RESET, 0 },
    { 0x92, 1, 3, GUEST_RESET, 0 },
    { 0x92, 1, 2, NOTHING, 0 },
    { 0x92, 1, 0xfe, NOTHING, 0 },
    { 0x92, 2, 1, NOTHING, 0 }, /* crosses the end of the region */
    { 0x91, 2, 0x0100, NOTHING, 0 },
    { 0xf4, 1, 0x2a, GUEST_EXIT, 42 },
    { 0xf4, 2, 0x12a, GUEST_EXIT, 42 },
    { 0xf4, 4, 0xffffff2a, GUEST_EXIT, 42 },
    { 0xf4, 8, 0, GUEST_EXIT, 0 },
    { 0xf5, 1, 0x2a, NOTHING, 0 },
    { 0x505, 1, 0, NOTHING, 0 },
    { 0x505, 1, 1, GUEST_PANIC, 0 },
    { 0x505, 1, 2, NOTHING, 0 },
    { 0x505, 1, 3, GUEST_PANIC, 0 },
    { 0x505, 1, 0xfc, NOTHING, 0 },
    { 0x505, 4, 1, NOTHING, 0 },
    { 0x600, 1, 5 << 2 | 1 << 5, GUEST_POWER_OFF, 0 },
    { 0x600, 2, 5 << 2 | 1 << 5, GUEST_POWER_OFF, 0 },
    { 0x600, 1, 5 << 2, NOTHING, 0 },          /* without SLP_EN */
    { 0x600, 1, 3 << 2 | 1 << 5, NOTHING, 0 }, /* S3 is not supported */
    { 0x600, 1, 7 << 2 | 1 << 5, NOTHING, 0 },
    { 0x601, 1, 5 << 2 | 1 << 5, NOTHING, 0 },
    { 0x602, 1, 1, GUEST_RESET, 0 },
    { 0x602, 1, 0, NOTHING, 0 },
    { 0x602, 1, 0xff, NOTHING, 0 },
    { 0x602, 2, 0x3401, GUEST_RESET, 0 },
    { 0x600, 4, 0x00010000, GUEST_RESET, 0 },
    { 0x603, 1, 1, NOTHING, 0 },
};

START_TEST(writes_report_events)
{
    int event;

    bus_write(&bus, writes[_i].port, writes[_i].size, writes[_i].value);
    event = recorded.events == 0 ? NOTHING : (int)recorded.event;
    ck_assert_int_eq(event, writes[_i].event);
    ck_assert_uint_eq(recorded.code, writes[_i].code);
    ck_assert_uint_le(recorded.events, 1);
}
END_TEST

static const struct {
    uint64_t port;
    unsigned size;
    uint64_t value;
} reads[] = {
    { 0x60, 1, UINT64_MAX },
    { 0x61, 1, UINT64_MAX },
    { 0x64, 1, 0 }, /* no data, ready for commands */
    { 0x64, 4, UINT64_MAX },
    { 0x92, 1, 2 }, /* A20 is enabled */
    { 0x92, 2, UINT64_MAX },
    { 0xf4, 1, 0 },
    { 0xf4, 8, 0 },
    { 0xf8, 8, UINT64_MAX },
    { 0x505, 1, PVPANIC_PANICKED | PVPANIC_CRASH_LOADED },
    { 0x505, 2, UINT64_MAX },
    { 0x600, 1, 0 },
    { 0x600, 4, 0 },
    { 0x602, 4, UINT64_MAX },
    { 0x604, 1, UINT64_MAX },
};

START_TEST(reads_and_accesses_across_the_end_of_a_region)
{
    ck_assert_uint_eq(bus_read(&bus, reads[_i].port, reads[_i].size), reads[_i].value);
}
END_TEST

START_TEST(every_width_at_every_offset)
{
    const struct chip *chip = chips[_i];

    for (unsigned size = 1; size <= 8; size *= 2)
        for (uint64_t offset = 0; offset + size <= chip->region.size; offset++) {
            for (unsigned shift = 0; shift < 64; shift++)
                bus_write(&bus, bases[_i] + offset, size, 1ull << shift);
            bus_write(&bus, bases[_i] + offset, size, UINT64_MAX);
            ck_assert(size == 8 || bus_read(&bus, bases[_i] + offset, size) >> 8 * size == 0);
        }
    /* Each chip but the i8042 has an event that some of these writes cause. */
    ck_assert_uint_eq(recorded.events > 0, _i != I8042);
}
END_TEST

START_TEST(power_button_event_is_read_once)
{
    acpi_power_press_button(chips[POWER]);
    ck_assert_uint_eq(recorded.edges, 1);
    ck_assert(!recorded.level);
    ck_assert_uint_eq(bus_read(&bus, 0x603, 1), ACPI_POWER_BUTTON);
    ck_assert_uint_eq(bus_read(&bus, 0x603, 1), 0);

    acpi_power_press_button(chips[POWER]);
    ck_assert_uint_eq(recorded.edges, 2);
    ck_assert_uint_eq(bus_read(&bus, 0x600, 4), (uint64_t)ACPI_POWER_BUTTON << 24);

    acpi_power_press_button(chips[POWER]);
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        chips[i]->device.ops->reset(&chips[i]->device);
    ck_assert_uint_eq(bus_read(&bus, 0x603, 1), 0);
    ck_assert_uint_eq(recorded.events, 0);
}
END_TEST

/* Saves the chips, and loads their state into those of a new machine. */
static void restore_into_new_machine(void)
{
    struct state saved[ARRAY_SIZE(chips)];

    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        saved_take(&saved[i], &chips[i]->device);
    tear_down();
    set_up();
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        saved_restore(&saved[i], &chips[i]->device);
    for (unsigned i = 0; i < ARRAY_SIZE(chips); i++)
        chips[i]->device.ops->resume(&chips[i]->device);
}

START_TEST(a_pressed_button_is_restored)
{
    restore_into_new_machine();
    ck_assert_uint_eq(recorded.edges, 0);
    acpi_power_press_button(chips[POWER]);
    restore_into_new_machine();
    ck_assert_uint_eq(recorded.edges, 1); /* raised again in the new machine */
    ck_assert_uint_eq(bus_read(&bus, 0x603, 1), ACPI_POWER_BUTTON);
    restore_into_new_machine();
    ck_assert_uint_eq(recorded.edges, 0);
    ck_assert_uint_eq(bus_read(&bus, 0x603, 1), 0);
}
END_TEST

START_TEST(the_a20_gate_is_remembered)
{
    bus_write(&bus, 0x92, 1, 0x0c);
    restore_into_new_machine();
    ck_assert_uint_eq(bus_read(&bus, 0x92, 1), 0x0c);
    chips[PORT92]->device.ops->reset(&chips[PORT92]->device);
    ck_assert_uint_eq(bus_read(&bus, 0x92, 1), 2);
}
END_TEST

START_TEST(damaged_state_is_refused)
{
    saved_check_refused(&chips[PORT92]->device, "value", 1, "value: 0x1 requests a reset");
    saved_check_refused(&chips[POWER]->device, "events", 2, "events: 0x2 has unknown bits");
    saved_check_refused(&chips[PVPANIC]->device, "crash_logged", 2, "neither true nor false");
}
END_TEST

START_TEST(a_logged_crash_is_restored)
{
    int log[2];

    bus_write(&bus, bases[PVPANIC], 1, PVPANIC_CRASH_LOADED);
    restore_into_new_machine();
    ck_assert_int_eq(pipe2(log, O_NONBLOCK), 0);
    dup2(log[1], STDERR_FILENO);
    log_set_level(LOG_LEVEL_WARN);
    bus_write(&bus, bases[PVPANIC], 1, PVPANIC_CRASH_LOADED);
    ck_assert_int_lt(read(log[0], &(char){ 0 }, 1), 0);
}
END_TEST

START_TEST(crash_messages_are_rate_limited)
{
    char text[512] = "";
    int log[2];

    ck_assert_int_eq(pipe(log), 0);
    dup2(log[1], STDERR_FILENO);
    log_set_level(LOG_LEVEL_WARN);
    for (unsigned i = 0; i < 10000; i++)
        bus_write(&bus, bases[PVPANIC], 1, PVPANIC_CRASH_LOADED);
    ck_assert_int_gt(read(log[0], text, sizeof(text) - 1), 0);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1); /* one line */
    ck_assert_uint_eq(recorded.events, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chips");
    TCase *tcase = tcase_create("registers");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, writes_report_events, 0, ARRAY_SIZE(writes));
    tcase_add_loop_test(tcase, reads_and_accesses_across_the_end_of_a_region, 0, ARRAY_SIZE(reads));
    tcase_add_loop_test(tcase, every_width_at_every_offset, 0, ARRAY_SIZE(chips));
    tcase_add_test(tcase, power_button_event_is_read_once);
    tcase_add_test(tcase, a_pressed_button_is_restored);
    tcase_add_test(tcase, the_a20_gate_is_remembered);
    tcase_add_test(tcase, damaged_state_is_refused);
    tcase_add_test(tcase, a_logged_crash_is_restored);
    tcase_add_test(tcase, crash_messages_are_rate_limited);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
