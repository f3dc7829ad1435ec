/* SPDX-License-Identifier: MIT */
#include "devices/chips/chip.h"
#include "devices/console/terminal.h"
#include "devices/virtio/rng.h"
#include "tests/unit/driver.h"
#include "tests/unit/host.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/timeline.h"

static uint8_t read_nothing(struct chip *chip, unsigned reg)
{
    return 0;
}

static void write_nothing(struct chip *chip, unsigned reg, uint8_t value)
{
}

static const struct chip_ops chip_ops = { .read = read_nothing, .write = write_nothing };

START_TEST(register_accesses_are_counted_as_exits)
{
    struct chip *chip = chip_create(sizeof(*chip), &chip_ops, chip_no_state, "chip", 0x100, 8);
    struct device_stats stats = { 0 };
    struct bus bus = { 0 };

    ck_assert_int_eq(bus_map(&bus, &chip->region), 0);
    bus_read(&bus, 0x100, 4); /* one access, however wide */
    bus_write(&bus, 0x107, 1, 0);
    bus_read(&bus, 0x107, 2); /* across the end, and beside it: nobody's */
    bus_read(&bus, 0x200, 1);
    chip->device.ops->count(&chip->device, &stats);
    ck_assert_uint_eq(stats.exits, 2);
    chip->device.ops->destroy(&chip->device);
}
END_TEST

static void request(struct driver *d)
{
    driver_describe(d, 0, 0, DRIVER_BUFFERS, 16, DRIVER_WRITE, 0);
    driver_publish(d, 0, 0);
}

START_TEST(requests_kicks_and_interrupts_are_summed_over_drivers)
{
    struct device_stats stats = { 0 };
    struct driver d;

    driver_init(&d);
    ck_assert_int_eq(virtio_rng_create(&d.device, "rng0", d.mem, d.loop), 0);
    for (unsigned driver = 0; driver < 2; driver++) {
        ck_assert(driver_start(&d, d.device, 0));
        for (unsigned kicks = 0; kicks < 3; kicks++) {
            request(&d);
            request(&d);
            driver_kick(&d, 0);
            ck_assert(driver_wait(&d, 0, NULL, NULL));
        }
        virtio_reset(d.device);
        driver_set_avail_idx(&d, 0, 0);
    }
    virtio_count(d.device, &stats);
    ck_assert_uint_eq(stats.requests, 12);
    ck_assert_uint_eq(stats.kicks, 6);
    ck_assert_uint_eq(stats.interrupts, 6); /* one for both of a kick */
    ck_assert_uint_eq(stats.interrupts, d.interrupts);
    ck_assert_ptr_eq(stats.loop, d.loop);
    ck_assert_uint_ge(loop_turns(d.loop), 6);
    driver_finish(&d);
}
END_TEST

START_TEST(a_closed_console_has_counted_all_bytes)
{
    struct host_pipe pipe = host_pipe();
    const struct terminal_config config = { .input = -1, .output = pipe.writer };
    struct loop *loop = loop_create();
    struct terminal *terminal;
    uint64_t bytes, writes;

    ck_assert_int_eq(terminal_create(&terminal, &config, loop), 0);
    terminal_write(terminal, "#", 1);
    terminal_write(terminal, " said\n", 6);
    terminal_close(terminal, 10000);
    terminal_write(terminal, "lost", 4);
    terminal_count(terminal, &bytes, &writes);
    ck_assert_uint_eq(bytes, 7);
    ck_assert_uint_ge(writes, 1);
    ck_assert_uint_le(writes, 2);
    terminal_destroy(terminal, 0);
    loop_destroy(loop);
    close(pipe.reader);
    close(pipe.writer);
}
END_TEST

START_TEST(only_the_first_start_is_timed)
{
    struct timeline timeline = { 0 };
    uint64_t first;

    timeline_mark(&timeline, PHASE_VM);
    first = timeline.done_ns[PHASE_VM];
    timeline_mark(&timeline, PHASE_SLOTS);
    timeline_mark(&timeline, PHASE_VM);
    ck_assert_uint_gt(first, 0);
    ck_assert_uint_eq(timeline.done_ns[PHASE_VM], first);
    ck_assert_uint_ge(timeline.done_ns[PHASE_SLOTS], first);
    ck_assert_uint_eq(timeline.done_ns[PHASE_KVM], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stats");
    TCase *tcase = tcase_create("stats");

    tcase_add_test(tcase, register_accesses_are_counted_as_exits);
    tcase_add_test(tcase, requests_kicks_and_interrupts_are_summed_over_drivers);
    tcase_add_test(tcase, a_closed_console_has_counted_all_bytes);
    tcase_add_test(tcase, only_the_first_start_is_timed);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
