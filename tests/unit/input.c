/* SPDX-License-Identifier: MIT */
#include "devices/virtio/input.h"

#include <linux/input-event-codes.h>
#include <linux/virtio_input.h>
#include <string.h>

#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"

enum { EVENTS, STATUS };

#define EVENT_SIZE 8

static struct driver d;

static void setup(void)
{
    driver_init(&d);
    ck_assert_int_eq(virtio_input_create(&d.device, "power", d.mem, d.loop), 0);
    driver_find(&d, d.device);
}

static void teardown(void)
{
    driver_finish(&d);
}

/* Posts event buffers of `size` bytes each. */
static void offer(unsigned first, unsigned count, uint32_t size)
{
    for (unsigned i = first; i < first + count; i++) {
        driver_describe(&d, EVENTS, i, DRIVER_BUFFERS + EVENT_SIZE * i, size, DRIVER_WRITE, 0);
        driver_publish(&d, EVENTS, (uint16_t)i);
    }
    driver_kick(&d, EVENTS);
}

static void expect_event(unsigned index, uint16_t type, uint16_t code, uint32_t value)
{
    const uint8_t *event = driver_ram(&d, DRIVER_BUFFERS + EVENT_SIZE * index);
    uint32_t written;

    ck_assert(driver_wait(&d, EVENTS, NULL, &written));
    ck_assert_uint_eq(written, EVENT_SIZE);
    ck_assert_uint_eq(le16_load((const le16 *)event), type);
    ck_assert_uint_eq(le16_load((const le16 *)event + 1), code);
    ck_assert_uint_eq(le32_load((const le32 *)event + 1), value);
}

static void expect_nothing(void)
{
    unsigned before = d.interrupts;

    loop_turn(d.loop, 10);
    ck_assert_uint_eq(d.interrupts, before);
}

static void expect_press(unsigned first)
{
    expect_event(first, EV_KEY, KEY_POWER, 1);
    expect_event(first + 1, EV_SYN, SYN_REPORT, 0);
    expect_event(first + 2, EV_KEY, KEY_POWER, 0);
    expect_event(first + 3, EV_SYN, SYN_REPORT, 0);
    expect_nothing();
}

START_TEST(a_press_sends_its_events)
{
    ck_assert(driver_start(&d, d.device, 0));
    offer(0, 16, EVENT_SIZE);
    expect_nothing();
    for (unsigned i = 0; i < 2; i++) {
        virtio_input_press(d.device);
        expect_press(4 * i);
    }
}
END_TEST

/* Presses before there is a driver, or room for all events, count as one. */
START_TEST(presses_before_the_driver_starts_are_one)
{
    virtio_input_press(d.device);
    virtio_input_press(d.device);
    ck_assert(driver_start(&d, d.device, 0));
    offer(0, 3, EVENT_SIZE);
    virtio_input_press(d.device);
    for (unsigned i = 3; i < 8; i++)
        offer(i, 1, EVENT_SIZE);
    expect_press(0);
}
END_TEST

START_TEST(a_press_sent_in_part_is_repeated_after_reset)
{
    ck_assert(driver_start(&d, d.device, 0));
    offer(0, 1, EVENT_SIZE);
    virtio_input_press(d.device);
    expect_event(0, EV_KEY, KEY_POWER, 1);
    virtio_reset(d.device);
    memset(driver_ram(&d, 0), 0, DRIVER_BUFFERS); /* a new driver clears its rings */
    ck_assert(driver_start(&d, d.device, 0));
    memset(d.avail_idx, 0, sizeof(d.avail_idx));
    memset(d.used_seen, 0, sizeof(d.used_seen));
    memset(d.kicked, 0, sizeof(d.kicked));
    offer(8, 8, EVENT_SIZE);
    expect_press(8);
}
END_TEST

START_TEST(buffer_too_small)
{
    uint32_t written;

    ck_assert(driver_start(&d, d.device, 0));
    offer(0, 4, EVENT_SIZE - 1);
    virtio_input_press(d.device);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(driver_wait(&d, EVENTS, NULL, &written));
        ck_assert_uint_eq(written, 0);
    }
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(status_events_are_returned)
{
    ck_assert(driver_start(&d, d.device, 0));
    for (unsigned i = 0; i < d.queue_size; i++) {
        driver_describe(&d, STATUS, i, DRIVER_BUFFERS, EVENT_SIZE, 0, 0);
        driver_publish(&d, STATUS, (uint16_t)i);
    }
    driver_kick(&d, STATUS);
    for (unsigned i = 0; i < d.queue_size; i++)
        ck_assert(driver_wait(&d, STATUS, NULL, NULL));
}
END_TEST

/* What is selected, and the size of its data. */
static const struct {
    uint8_t select, subselect, size;
} answers[] = {
    { VIRTIO_INPUT_CFG_UNSET, 0, 0 },         { VIRTIO_INPUT_CFG_ID_NAME, 0, 20 },
    { VIRTIO_INPUT_CFG_ID_SERIAL, 0, 0 },     { VIRTIO_INPUT_CFG_PROP_BITS, 0, 0 },
    { VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, 15 }, { VIRTIO_INPUT_CFG_EV_BITS, EV_REP, 0 },
    { VIRTIO_INPUT_CFG_EV_BITS, 0xff, 0 },    { 0xff, 0xff, 0 },
};

START_TEST(configuration)
{
    struct virtio_input_config config;
    uint8_t bytes[VIRTIO_MAX_CONFIG];

    virtio_write_config(d.device, 0, 1, answers[_i].select);
    virtio_write_config(d.device, 1, 1, answers[_i].subselect);
    virtio_write_config(d.device, 2, 1, 0x55); /* no effect: read-only */
    virtio_write_config(d.device, 8, 8, 0x5555);
    virtio_read_config(d.device, bytes);
    memcpy(&config, bytes, sizeof(bytes));
    ck_assert_uint_eq(config.select, answers[_i].select);
    ck_assert_uint_eq(config.subsel, answers[_i].subselect);
    ck_assert_uint_eq(config.size, answers[_i].size);
    for (unsigned i = 8 + config.size; i < sizeof(bytes); i++)
        ck_assert_uint_eq(bytes[i], 0);
    if (config.select == VIRTIO_INPUT_CFG_EV_BITS && config.subsel == EV_KEY)
        ck_assert_uint_eq(config.u.bitmap[KEY_POWER / 8], 1 << KEY_POWER % 8);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("input");
    TCase *test = tcase_create("input");

    tcase_add_checked_fixture(test, setup, teardown);
    tcase_add_test(test, a_press_sends_its_events);
    tcase_add_test(test, presses_before_the_driver_starts_are_one);
    tcase_add_test(test, a_press_sent_in_part_is_repeated_after_reset);
    tcase_add_test(test, buffer_too_small);
    tcase_add_test(test, status_events_are_returned);
    tcase_add_loop_test(test, configuration, 0, ARRAY_SIZE(answers));
    suite_add_tcase(suite, test);
    return unit_run(suite);
}
