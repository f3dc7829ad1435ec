/* SPDX-License-Identifier: MIT */
#include "devices/virtio/balloon.h"

#include <linux/virtio_balloon.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/driver.h"
#include "tests/unit/saved.h"
#include "tests/unit/unit.h"
#include "vmm/core/endian.h"

enum { INFLATE, DEFLATE, REPORT, REPORT_OF_SPEC = 4 };

#define PAGE  ((uint32_t)sysconf(_SC_PAGESIZE))
#define START DRIVER_BUFFERS
#define SIZE  (DRIVER_RAM - DRIVER_BUFFERS)

static struct driver d;

static void setup(void)
{
    driver_init(&d);
    madvise(driver_ram(&d, 0), DRIVER_RAM, MADV_NOHUGEPAGE);
    ck_assert_int_eq(virtio_balloon_create(&d.device, "balloon0", d.mem, d.loop), 0);
    ck_assert(driver_start(&d, d.device, BIT(VIRTIO_BALLOON_F_REPORTING)));
    memset(driver_ram(&d, START), 1, SIZE);
}

static void teardown(void)
{
    driver_finish(&d);
}

/* Also runs the loop for one turn. */
static void send(unsigned queue, unsigned head)
{
    driver_publish(&d, queue, (uint16_t)head);
    driver_kick(&d, queue);
}

/* A request of one buffer, which is answered. */
static void request(unsigned queue, uint64_t addr, uint32_t size, uint16_t flags)
{
    uint32_t written;

    driver_describe(&d, queue, 0, addr, size, flags, 0);
    send(queue, 0);
    ck_assert(driver_wait(&d, queue, NULL, &written));
    ck_assert_uint_eq(written, 0);
}

static bool all_are(uint64_t addr, size_t size, uint8_t value)
{
    const uint8_t *bytes = driver_ram(&d, addr);

    while (size-- > 0)
        if (bytes[size] != value)
            return false;
    return true;
}

/* Of DRIVER_RAM. */
static unsigned count_pages(uint64_t addr, size_t size)
{
    unsigned char present[DRIVER_RAM / 4096];
    unsigned count = 0;

    ck_assert_int_eq(mincore(driver_ram(&d, addr), size, present), 0);
    for (size_t i = 0; i < size / PAGE; i++)
        count += present[i] & 1;
    return count;
}

/* By the specification's number, and by the one that Linux uses. */
START_TEST(reported_pages_go_back_to_the_host)
{
    request((unsigned)_i, START + PAGE, 2 * PAGE, DRIVER_WRITE);
    ck_assert_uint_eq(count_pages(START + PAGE, 2 * PAGE), 0);
    ck_assert(all_are(START, PAGE, 1));
    ck_assert(all_are(START + 3 * PAGE, PAGE, 1));
    ck_assert_uint_eq(d.interrupts, 1);
}
END_TEST

START_TEST(a_report_of_many_pieces)
{
    const unsigned pieces = 16;

    for (unsigned i = 0; i < pieces; i++)
        driver_describe(&d, REPORT, i, START + 2 * i * PAGE, PAGE,
                        DRIVER_WRITE | (i + 1 < pieces ? DRIVER_NEXT : 0), (uint16_t)(i + 1));
    send(REPORT, 0);
    ck_assert(driver_wait(&d, REPORT, NULL, NULL));
    ck_assert_uint_eq(count_pages(START, 2 * pieces * PAGE), pieces);
}
END_TEST

START_TEST(what_the_device_may_only_read_is_no_report)
{
    request(REPORT, START, SIZE, 0);
    ck_assert_uint_eq(count_pages(START, SIZE), SIZE / PAGE);
}
END_TEST

START_TEST(parts_of_pages_stay)
{
    request(REPORT, START + 1, PAGE, DRIVER_WRITE);
    request(REPORT, START, PAGE - 1, DRIVER_WRITE);
    request(REPORT, START, 0, DRIVER_WRITE);
    ck_assert(all_are(START, SIZE, 1));
}
END_TEST

START_TEST(pages_outside_ram_break_the_queue)
{
    driver_describe(&d, REPORT, 0, DRIVER_RAM - PAGE, 2 * PAGE, DRIVER_WRITE, 0);
    send(REPORT, 0);
    ck_assert(driver_broken(&d));
    ck_assert(all_are(DRIVER_RAM - PAGE, PAGE, 1));
}
END_TEST

/* Far more than a turn of the loop does: one request that names the same RAM many times. */
static void send_flood(void)
{
    const unsigned pieces = d.queue_size;

    for (unsigned i = 0; i < pieces; i++)
        driver_describe(&d, REPORT, i, START, SIZE,
                        DRIVER_WRITE | (i + 1 < pieces ? DRIVER_NEXT : 0), (uint16_t)(i + 1));
    send(REPORT, 0);
}

/* The index of the used ring. */
static uint16_t used(unsigned queue)
{
    return le16_load(driver_ram(&d, 0x10000 + queue * 0x10000 + 0x8002));
}

START_TEST(a_flood_yields_the_loop)
{
    send_flood();
    ck_assert_uint_eq(used(REPORT), 0);
    ck_assert(driver_wait(&d, REPORT, NULL, NULL));
    ck_assert_uint_eq(count_pages(START, SIZE), 0);
}
END_TEST

/* Each costs a system call, however little it gives back. */
START_TEST(a_flood_of_nothing_yields_the_loop)
{
    unsigned queue = (unsigned)_i;

    memset(driver_ram(&d, START), 0, 4);
    for (unsigned i = 0; i < d.queue_size; i++) {
        driver_describe(&d, queue, i, START, 4, queue == REPORT ? DRIVER_WRITE : 0, 0);
        driver_publish(&d, queue, (uint16_t)i);
    }
    driver_kick(&d, queue); /* also one turn of the loop */
    ck_assert_uint_lt(used(queue), d.queue_size);
    for (unsigned i = 0; i < d.queue_size; i++)
        ck_assert(driver_wait(&d, queue, NULL, NULL));
}
END_TEST

/* What is left of it begins anew; also when the driver has sent a smaller one in its place. */
START_TEST(a_pause_in_the_middle_of_a_flood)
{
    send_flood();
    ck_assert_int_eq(virtio_pause(d.device, UINT64_MAX), 0);
    memset(driver_ram(&d, START), 2, SIZE);
    if (_i)
        driver_describe(&d, REPORT, 0, START, PAGE, DRIVER_WRITE, 0);
    loop_turn(d.loop, 0);
    ck_assert(all_are(START, SIZE, 2));
    virtio_resume(d.device);
    ck_assert(driver_wait(&d, REPORT, NULL, NULL));
    ck_assert(!driver_broken(&d));
}
END_TEST

static void put_pfns(const uint32_t *pfns, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        le32_store((le32 *)driver_ram(&d, START) + i, pfns[i]);
}

START_TEST(inflated_pages_go_back_to_the_host)
{
    const uint32_t pfns[] = { DRIVER_RAM / 4096 - 1, START / 4096 + 64 };

    put_pfns(pfns, 2);
    request(INFLATE, START, sizeof(pfns), 0);
    request(DEFLATE, START, sizeof(pfns), 0);
    if (PAGE == 4096) /* smaller units than the host's pages stay */
        ck_assert_uint_eq(count_pages(START, SIZE), SIZE / PAGE - 2);
    ck_assert(all_are(START + 63 * 4096, 4096, 1));
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(inflating_outside_ram_breaks_the_queue)
{
    const uint32_t pfns[] = { DRIVER_RAM / 4096, UINT32_MAX };

    put_pfns(&pfns[_i], 1);
    driver_describe(&d, INFLATE, 0, START, 4, 0, 0);
    send(INFLATE, 0);
    ck_assert(driver_broken(&d));
}
END_TEST

START_TEST(an_inflation_is_used_in_part)
{
    const uint32_t pfn = DRIVER_RAM / 4096 - 1, bad = UINT32_MAX;

    for (unsigned i = 0; i < 300; i++)
        le32_store((le32 *)driver_ram(&d, START) + i, i < 256 ? pfn : bad);
    request(INFLATE, START, 4 * 300, 0);
    request(INFLATE, START, 3, 0); /* not even one number */
    ck_assert(!driver_broken(&d));
}
END_TEST

static void read_config(struct virtio_device *device, uint32_t *ret)
{
    uint8_t config[VIRTIO_MAX_CONFIG];

    virtio_read_config(device, config);
    memcpy(ret, config, 8);
}

START_TEST(the_driver_says_how_large_the_balloon_is)
{
    uint32_t config[2];

    virtio_write_config(d.device, 4, 4, 17);
    virtio_write_config(d.device, 0, 4, 5); /* num_pages is the device's */
    virtio_write_config(d.device, 4, 2, 5);
    read_config(d.device, config);
    ck_assert_uint_eq(config[0], 0);
    ck_assert_uint_eq(le32toh(config[1]), 17);
    virtio_reset(d.device);
    read_config(d.device, config);
    ck_assert_uint_eq(config[1], 0);
}
END_TEST

START_TEST(a_restored_balloon_goes_on)
{
    struct saved_virtio before = saved_virtio(d.device), after;
    struct driver old;
    struct state s;
    uint32_t config[2];

    virtio_write_config(d.device, 4, 4, 17);
    send_flood();
    ck_assert_int_eq(virtio_pause(d.device, UINT64_MAX), 0);
    saved_take(&s, &before.device);
    old = d;
    driver_init(&d);
    ck_assert_int_eq(virtio_balloon_create(&d.device, "balloon0", d.mem, d.loop), 0);
    driver_find(&d, d.device);
    driver_adopt(&d, &old);
    after = saved_virtio(d.device);
    saved_restore(&s, &after.device);
    virtio_resume(d.device);
    read_config(d.device, config);
    ck_assert_uint_eq(le32toh(config[1]), 17);
    ck_assert(driver_wait(&d, REPORT, NULL, NULL));
    ck_assert_uint_eq(count_pages(START, SIZE), 0);
    driver_finish(&old);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("balloon");
    TCase *test = tcase_create("balloon");

    tcase_add_checked_fixture(test, setup, teardown);
    tcase_add_loop_test(test, reported_pages_go_back_to_the_host, REPORT, REPORT_OF_SPEC + 1);
    tcase_add_test(test, a_report_of_many_pieces);
    tcase_add_test(test, what_the_device_may_only_read_is_no_report);
    tcase_add_test(test, parts_of_pages_stay);
    tcase_add_test(test, pages_outside_ram_break_the_queue);
    tcase_add_test(test, a_flood_yields_the_loop);
    tcase_add_loop_test(test, a_flood_of_nothing_yields_the_loop, REPORT, REPORT + 1);
    tcase_add_loop_test(test, a_flood_of_nothing_yields_the_loop, INFLATE, INFLATE + 1);
    tcase_add_loop_test(test, a_pause_in_the_middle_of_a_flood, 0, 2);
    tcase_add_test(test, inflated_pages_go_back_to_the_host);
    tcase_add_loop_test(test, inflating_outside_ram_breaks_the_queue, 0, 2);
    tcase_add_test(test, an_inflation_is_used_in_part);
    tcase_add_test(test, the_driver_says_how_large_the_balloon_is);
    tcase_add_test(test, a_restored_balloon_goes_on);
    suite_add_tcase(suite, test);
    return unit_run(suite);
}
