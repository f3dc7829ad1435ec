/* SPDX-License-Identifier: MIT */
#include "devices/virtio/rng.h"

#include <string.h>

#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/endian.h"

static struct driver d;

static void setup(void)
{
    driver_init(&d);
    ck_assert_int_eq(virtio_rng_create(&d.device, "rng0", d.mem, d.loop), 0);
    ck_assert(driver_start(&d, d.device, 0));
}

static void teardown(void)
{
    driver_finish(&d);
}

static uint32_t request(uint64_t addr, uint32_t size, uint16_t flags)
{
    uint32_t written;

    driver_describe(&d, 0, 0, addr, size, flags, 0);
    driver_publish(&d, 0, 0);
    driver_kick(&d, 0);
    ck_assert(driver_wait(&d, 0, NULL, &written));
    return written;
}

static unsigned count_zeros(uint64_t addr, size_t size)
{
    const uint8_t *bytes = driver_ram(&d, addr);
    unsigned zeros = 0;

    while (size--)
        zeros += bytes[size] == 0;
    return zeros;
}

START_TEST(fills_a_buffer_with_entropy)
{
    ck_assert_uint_eq(request(DRIVER_BUFFERS, 64, DRIVER_WRITE), 64);
    ck_assert_uint_lt(count_zeros(DRIVER_BUFFERS, 64), 16);
    ck_assert_uint_eq(count_zeros(DRIVER_BUFFERS + 64, 64), 64);
}
END_TEST

/* The host's work is bounded, whatever the size of the guest's buffer. */
START_TEST(a_huge_buffer_is_filled_in_part)
{
    uint32_t written = request(DRIVER_BUFFERS, DRIVER_RAM - DRIVER_BUFFERS, DRIVER_WRITE);

    ck_assert_uint_gt(written, 0);
    ck_assert_uint_le(written, 4096);
    ck_assert_uint_eq(count_zeros(DRIVER_BUFFERS + written, 4096), 4096);
}
END_TEST

START_TEST(no_writable_buffer)
{
    ck_assert_uint_eq(request(DRIVER_BUFFERS, 64, 0), 0);
    ck_assert_uint_eq(request(DRIVER_BUFFERS, 0, DRIVER_WRITE), 0);
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(many_pieces)
{
    for (unsigned i = 0; i < 50; i++)
        driver_describe(&d, 0, i, DRIVER_BUFFERS + 10 * i, i % 3,
                        DRIVER_WRITE | (i < 49 ? DRIVER_NEXT : 0), (uint16_t)(i + 1));
    driver_publish(&d, 0, 0);
    driver_kick(&d, 0);
    ck_assert(driver_wait(&d, 0, NULL, NULL));
    ck_assert_uint_lt(count_zeros(DRIVER_BUFFERS, 500), 490);
}
END_TEST

/* A full queue takes several rounds of the loop, without further kicks. */
START_TEST(a_flood_yields_the_loop)
{
    for (unsigned i = 0; i < d.queue_size; i++) {
        driver_describe(&d, 0, i, DRIVER_BUFFERS, 256, DRIVER_WRITE, 0);
        driver_publish(&d, 0, (uint16_t)i);
    }
    driver_kick(&d, 0);
    ck_assert_uint_lt(le16_load(driver_ram(&d, 0x10000 + 0x8002)), d.queue_size);
    for (unsigned i = 0; i < d.queue_size; i++)
        ck_assert(driver_wait(&d, 0, NULL, NULL));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rng");
    TCase *test = tcase_create("rng");

    tcase_add_checked_fixture(test, setup, teardown);
    tcase_add_test(test, fills_a_buffer_with_entropy);
    tcase_add_test(test, a_huge_buffer_is_filled_in_part);
    tcase_add_test(test, no_writable_buffer);
    tcase_add_test(test, many_pieces);
    tcase_add_test(test, a_flood_yields_the_loop);
    suite_add_tcase(suite, test);
    return unit_run(suite);
}
