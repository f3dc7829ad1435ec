/* SPDX-License-Identifier: MIT */
#include "devices/virtio/blk.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/base.h"
#include "vmm/config.h"
#include "vmm/endian.h"

#define SECTORS 64
#define HEADER  DRIVER_BUFFERS             /* where the tests put a request's header, */
#define DATA    (DRIVER_BUFFERS + 0x10000) /* its data */
#define STATUS  (DRIVER_BUFFERS + 0xf000)  /* and its status */

enum { N = DRIVER_NEXT, W = DRIVER_WRITE, I = DRIVER_INDIRECT };
enum { UNTOUCHED = 0x55 };

#define FLUSH (1ull << VIRTIO_BLK_F_FLUSH)

/* Each test runs on both engines: it is a loop test over these. */
static const enum disk_engine engines[] = { DISK_ENGINE_IO_URING, DISK_ENGINE_THREAD };

struct disk {
    struct driver d;
    char path[64];
    int fd; /* a second way to the image */
};

static void disk_open(struct disk *disk, enum disk_engine engine, bool read_only, uint64_t features)
{
    struct disk_config config = { .path = disk->path, .read_only = read_only, .engine = engine };
    struct virtio_device *device;
    struct block *block;

    driver_init(&disk->d);
    strcpy(disk->path, "/tmp/minivmm-blk-XXXXXX");
    disk->fd = mkstemp(disk->path);
    ck_assert_int_ge(disk->fd, 0);
    ck_assert_int_eq(ftruncate(disk->fd, SECTORS * 512), 0);
    ck_assert_int_eq(raw_open(&block, &config, disk->d.loop), 0);
    unlink(disk->path);
    ck_assert_int_eq(virtio_blk_create(&device, "blk7", block, "", disk->d.mem, disk->d.loop), 0);
    ck_assert(driver_start(&disk->d, device, features));
}

static void disk_close(struct disk *disk)
{
    driver_finish(&disk->d);
    close(disk->fd);
}

static void put_header(struct disk *disk, uint32_t type, uint64_t sector)
{
    le32_store(driver_ram(&disk->d, HEADER), type);
    le64_store(driver_ram(&disk->d, HEADER + 8), sector);
    *(uint8_t *)driver_ram(&disk->d, STATUS) = UNTOUCHED;
}

/* Sends the chain at descriptor 0 and waits for its end. Its status; *ret_written may be NULL. */
static unsigned finish(struct disk *disk, uint32_t *ret_written)
{
    driver_publish(&disk->d, 0, 0);
    driver_kick(&disk->d, 0);
    ck_assert(driver_wait(&disk->d, 0, NULL, ret_written));
    return *(uint8_t *)driver_ram(&disk->d, STATUS);
}

/* Header, data, status: as Linux frames it. `flags` is W for data the device writes. */
static unsigned request(struct disk *disk, uint32_t type, uint64_t sector, uint32_t len,
                        uint16_t flags, uint32_t *ret_written)
{
    put_header(disk, type, sector);
    driver_describe(&disk->d, 0, 0, HEADER, 16, N, len ? 1 : 2);
    driver_describe(&disk->d, 0, 1, DATA, len, N | flags, 2);
    driver_describe(&disk->d, 0, 2, STATUS, 1, W, 0);
    return finish(disk, ret_written);
}

static unsigned read_disk(struct disk *disk, uint64_t sector, uint32_t len)
{
    return request(disk, VIRTIO_BLK_T_IN, sector, len, W, NULL);
}

static unsigned write_disk(struct disk *disk, uint64_t sector, uint32_t len)
{
    return request(disk, VIRTIO_BLK_T_OUT, sector, len, 0, NULL);
}

#define ENGINE engines[_i]

START_TEST(what_is_written_is_read_and_in_the_file)
{
    struct disk disk;
    uint32_t written;
    char file[1024];

    disk_open(&disk, ENGINE, false, FLUSH);
    memset(driver_ram(&disk.d, DATA), 'x', 1024);
    ck_assert_uint_eq(request(&disk, VIRTIO_BLK_T_OUT, 3, 1024, 0, &written), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(written, 1);
    ck_assert_int_eq(pread(disk.fd, file, 1024, 3 * 512), 1024);
    ck_assert_mem_eq(file, driver_ram(&disk.d, DATA), 1024);

    memset(driver_ram(&disk.d, DATA), 0, 2048);
    ck_assert_uint_eq(request(&disk, VIRTIO_BLK_T_IN, 2, 2048, W, &written), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(written, 2049);
    ck_assert_int_eq(*(char *)driver_ram(&disk.d, DATA + 511), 0);
    ck_assert_mem_eq(driver_ram(&disk.d, DATA + 512), file, 1024);
    ck_assert_int_eq(*(char *)driver_ram(&disk.d, DATA + 512 + 1024), 0);
    ck_assert_uint_eq(request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0, NULL), VIRTIO_BLK_S_OK);
    disk_close(&disk);
}
END_TEST

START_TEST(framing_means_nothing)
{
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    memset(driver_ram(&disk.d, DATA), 'w', 512);
    ck_assert_uint_eq(write_disk(&disk, 5, 512), VIRTIO_BLK_S_OK);

    /* The header in three pieces, the status in the same descriptor as the end of the data. */
    put_header(&disk, VIRTIO_BLK_T_IN, 5);
    driver_describe(&disk.d, 0, 0, HEADER, 1, N, 1);
    driver_describe(&disk.d, 0, 1, HEADER + 1, 10, N, 2);
    driver_describe(&disk.d, 0, 2, HEADER + 11, 5, N, 3);
    driver_describe(&disk.d, 0, 3, DATA + 0x1000, 100, N | W, 4);
    driver_describe(&disk.d, 0, 4, STATUS - 412, 413, W, 0);
    ck_assert_uint_eq(finish(&disk, NULL), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(driver_ram(&disk.d, DATA + 0x1000), driver_ram(&disk.d, DATA), 100);
    ck_assert_mem_eq(driver_ram(&disk.d, STATUS - 412), driver_ram(&disk.d, DATA), 412);

    /* Header and data to be written in one descriptor. */
    put_header(&disk, VIRTIO_BLK_T_OUT, 6);
    memset(driver_ram(&disk.d, HEADER + 16), 'z', 512);
    driver_describe(&disk.d, 0, 0, HEADER, 16 + 512, N, 1);
    driver_describe(&disk.d, 0, 1, STATUS, 1, W, 0);
    ck_assert_uint_eq(finish(&disk, NULL), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(read_disk(&disk, 6, 512), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(driver_ram(&disk.d, DATA), driver_ram(&disk.d, HEADER + 16), 512);
    disk_close(&disk);
}
END_TEST

START_TEST(sector_overflow_and_past_the_end)
{
    const struct {
        uint64_t sector;
        uint32_t len;
        unsigned status;
    } cases[] = {
        { SECTORS - 1, 512, VIRTIO_BLK_S_OK },     { SECTORS, 512, VIRTIO_BLK_S_IOERR },
        { SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR }, { UINT64_MAX, 512, VIRTIO_BLK_S_IOERR },
        { 1ull << 55, 512, VIRTIO_BLK_S_IOERR },   { (1ull << 55) - 1, 512, VIRTIO_BLK_S_IOERR },
        { SECTORS, 0, VIRTIO_BLK_S_OK },           { SECTORS + 1, 0, VIRTIO_BLK_S_IOERR },
    };
    struct disk disk;
    struct stat st;

    disk_open(&disk, ENGINE, false, FLUSH);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        ck_assert_uint_eq(read_disk(&disk, cases[i].sector, cases[i].len), cases[i].status);
        ck_assert_uint_eq(write_disk(&disk, cases[i].sector, cases[i].len), cases[i].status);
    }
    ck_assert_int_eq(fstat(disk.fd, &st), 0);
    ck_assert_int_eq(st.st_size, SECTORS * 512);
    disk_close(&disk);
}
END_TEST

START_TEST(length_no_multiple_of_512)
{
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    for (uint32_t len = 1; len < 1024; len += 102)
        ck_assert_uint_eq(write_disk(&disk, 0, len), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(write_disk(&disk, 0, 0), VIRTIO_BLK_S_OK);
    ck_assert(!driver_broken(&disk.d));
    disk_close(&disk);
}
END_TEST

START_TEST(write_to_a_read_only_disk)
{
    struct disk disk;

    disk_open(&disk, ENGINE, true, FLUSH | 1ull << VIRTIO_BLK_F_RO);
    ck_assert_uint_eq(write_disk(&disk, 0, 512), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(request(&disk, VIRTIO_BLK_T_DISCARD, 0, 16, 0, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(read_disk(&disk, 0, 512), VIRTIO_BLK_S_OK);
    disk_close(&disk);
}
END_TEST

START_TEST(unknown_request_type)
{
    const uint32_t types[] = { 2, 3, 5, 9, 77, VIRTIO_BLK_T_SECURE_ERASE, UINT32_MAX };
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
        ck_assert_uint_eq(request(&disk, types[i], 0, 512, W, NULL), VIRTIO_BLK_S_UNSUPP);
    disk_close(&disk);
}
END_TEST

START_TEST(status_byte_or_header_missing)
{
    struct disk disk;
    uint32_t written;

    disk_open(&disk, ENGINE, false, FLUSH);
    put_header(&disk, VIRTIO_BLK_T_OUT, 0);
    driver_describe(&disk.d, 0, 0, HEADER, 16, N, 1);
    driver_describe(&disk.d, 0, 1, DATA, 512, 0, 0);
    ck_assert_uint_eq(finish(&disk, &written), UNTOUCHED);
    ck_assert_uint_eq(written, 0);
    for (uint32_t len = 0; len < 16; len += 5) { /* a header cut short */
        put_header(&disk, VIRTIO_BLK_T_IN, 0);
        driver_describe(&disk.d, 0, 0, HEADER, len, N, 1);
        driver_describe(&disk.d, 0, 1, STATUS, 1, W, 0);
        ck_assert_uint_eq(finish(&disk, NULL), VIRTIO_BLK_S_IOERR);
    }
    ck_assert(!driver_broken(&disk.d));
    disk_close(&disk);
}
END_TEST

START_TEST(get_id)
{
    struct disk disk;
    uint32_t written;

    disk_open(&disk, ENGINE, false, FLUSH);
    memset(driver_ram(&disk.d, DATA), UNTOUCHED, 32);
    ck_assert_uint_eq(request(&disk, VIRTIO_BLK_T_GET_ID, 0, 20, W, &written), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(written, 21);
    ck_assert_mem_eq(driver_ram(&disk.d, DATA), "blk7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x55", 21);
    ck_assert_uint_eq(request(&disk, VIRTIO_BLK_T_GET_ID, 0, 3, W, &written), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(written, 4);
    disk_close(&disk);
}
END_TEST

static void put_range(struct disk *disk, uint64_t sector, uint32_t count, uint32_t flags)
{
    le64_store(driver_ram(&disk->d, DATA), sector);
    le32_store(driver_ram(&disk->d, DATA + 8), count);
    le32_store(driver_ram(&disk->d, DATA + 12), flags);
}

START_TEST(discard_and_write_zeroes)
{
    const uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
    const struct {
        uint64_t sector;
        uint32_t count, flags, len;
        unsigned status[2];
    } cases[] = {
        { 0, SECTORS, 0, 16, { VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK } },
        { 8, 8, 1, 16, { VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_S_OK } },
        { 0, 1, 2, 16, { VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_S_UNSUPP } },
        { 1, SECTORS, 0, 16, { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR } },
        { UINT64_MAX, 1, 0, 16, { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR } },
        { 0, UINT32_MAX, 0, 16, { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR } },
        { 0, 1, 0, 32, { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR } },
        { 0, 1, 0, 8, { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR } },
        { 0, 0, 0, 16, { VIRTIO_BLK_S_OK, VIRTIO_BLK_S_OK } },
    };
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    for (unsigned type = 0; type < 2; type++)
        for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
            char byte = 'q';

            ck_assert_int_eq(pwrite(disk.fd, &byte, 1, 12 * 512), 1);
            put_range(&disk, cases[i].sector, cases[i].count, cases[i].flags);
            ck_assert_uint_eq(request(&disk, types[type], 0, cases[i].len, 0, NULL),
                              cases[i].status[type]);
            ck_assert_int_eq(pread(disk.fd, &byte, 1, 12 * 512), 1);
            if (cases[i].status[type] == VIRTIO_BLK_S_OK && cases[i].count > 5 && type == 1)
                ck_assert_int_eq(byte, 0);
            if (cases[i].status[type] != VIRTIO_BLK_S_OK)
                ck_assert_int_eq(byte, 'q');
        }
    disk_close(&disk);
}
END_TEST

START_TEST(host_file_truncated_under_us)
{
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    ck_assert_int_eq(ftruncate(disk.fd, 10 * 512), 0);
    ck_assert_uint_eq(read_disk(&disk, 0, 512), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(read_disk(&disk, 20, 512), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(read_disk(&disk, 9, 1024), VIRTIO_BLK_S_IOERR); /* in the middle */
    ck_assert(!driver_broken(&disk.d));
    disk_close(&disk);
}
END_TEST

START_TEST(host_says_no_to_a_write)
{
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    /* As a full disk would: a sealed memory file takes no writes. */
    {
        int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
        struct disk_config config = { .engine = ENGINE };
        struct virtio_device *device;
        struct block *block;
        char path[64];

        ck_assert_int_eq(ftruncate(sealed, SECTORS * 512), 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", sealed);
        config.path = path;
        virtio_destroy(disk.d.device);
        ck_assert_int_eq(raw_open(&block, &config, disk.d.loop), 0);
        ck_assert_int_eq(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
        ck_assert_int_eq(virtio_blk_create(&device, "blk8", block, "", disk.d.mem, disk.d.loop), 0);
        memset(driver_ram(&disk.d, 0x10000), 0, 0x10000);
        ck_assert(driver_start(&disk.d, device, FLUSH));
        close(sealed);
    }
    ck_assert_uint_eq(write_disk(&disk, 0, 512), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(read_disk(&disk, 0, 512), VIRTIO_BLK_S_OK);
    disk_close(&disk);
}
END_TEST

START_TEST(reset_with_io_in_flight)
{
    uint8_t untouched[16384];
    struct disk disk;

    memset(untouched, UNTOUCHED, sizeof(untouched));
    disk_open(&disk, ENGINE, false, FLUSH);
    for (unsigned round = 0; round < 50; round++) {
        put_header(&disk, VIRTIO_BLK_T_IN, 0);
        driver_describe(&disk.d, 0, 0, HEADER, 16, N, 1);
        driver_describe(&disk.d, 0, 1, DATA, 16384, N | W, 2);
        driver_describe(&disk.d, 0, 2, STATUS, 1, W, 0);
        for (unsigned i = 0; i < 8; i++)
            driver_publish(&disk.d, 0, 0);
        driver_kick(&disk.d, 0);
        virtio_reset(disk.d.device); /* returns with nothing in flight: then nothing may change */
        memset(driver_ram(&disk.d, DATA), UNTOUCHED, 16384);
        memset(driver_ram(&disk.d, 0x10000), 0, 0x10000);
        loop_turn(disk.d.loop, 0);
        ck_assert_mem_eq(driver_ram(&disk.d, DATA), untouched, sizeof(untouched));
        ck_assert(driver_start(&disk.d, disk.d.device, FLUSH));
    }
    ck_assert_uint_eq(read_disk(&disk, 0, 512), VIRTIO_BLK_S_OK);
    disk_close(&disk);
}
END_TEST

START_TEST(without_flush_writes_are_still_right)
{
    struct disk disk;
    char byte;

    disk_open(&disk, ENGINE, false, 0);
    memset(driver_ram(&disk.d, DATA), 'd', 512);
    ck_assert_uint_eq(write_disk(&disk, 1, 512), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(pread(disk.fd, &byte, 1, 512), 1);
    ck_assert_int_eq(byte, 'd');
    disk_close(&disk);
}
END_TEST

/* Random reads and writes, up to eight at once, against a model of the disk. */
START_TEST(a_random_pattern_matches_a_model)
{
    static uint8_t model[SECTORS * 512];
    unsigned seed = 42;
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    memset(model, 0, sizeof(model));
    for (unsigned round = 0; round < 300; round++) {
        uint32_t count = 1 + (unsigned)rand_r(&seed) % 8;
        uint32_t sector = (unsigned)rand_r(&seed) % (SECTORS - count + 1);
        uint8_t *data = driver_ram(&disk.d, DATA);

        if (rand_r(&seed) % 2) {
            for (uint32_t i = 0; i < count * 512; i++)
                data[i] = model[sector * 512 + i] = (uint8_t)rand_r(&seed);
            ck_assert_uint_eq(write_disk(&disk, sector, count * 512), VIRTIO_BLK_S_OK);
        } else {
            ck_assert_uint_eq(read_disk(&disk, sector, count * 512), VIRTIO_BLK_S_OK);
            ck_assert_mem_eq(data, model + sector * 512, count * 512);
        }
    }
    disk_close(&disk);
}
END_TEST

START_TEST(many_at_once_end_with_few_interrupts)
{
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    put_header(&disk, VIRTIO_BLK_T_IN, 0);
    for (unsigned i = 0; i < 20; i++) {
        driver_describe(&disk.d, 0, 3 * i, HEADER, 16, N, (uint16_t)(3 * i + 1));
        driver_describe(&disk.d, 0, 3 * i + 1, DATA + 512 * i, 512, N | W, (uint16_t)(3 * i + 2));
        driver_describe(&disk.d, 0, 3 * i + 2, STATUS + i, 1, W, 0);
        driver_publish(&disk.d, 0, (uint16_t)(3 * i));
    }
    driver_kick(&disk.d, 0);
    for (unsigned i = 0; i < 20; i++)
        ck_assert(driver_wait(&disk.d, 0, NULL, NULL));
    ck_assert_uint_le(disk.d.interrupts, 20);
    ck_assert_uint_ge(disk.d.interrupts, 1);
    disk_close(&disk);
}
END_TEST

START_TEST(configuration_space)
{
    struct virtio_blk_config config;
    uint8_t bytes[VIRTIO_MAX_CONFIG];
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    virtio_read_config(disk.d.device, bytes);
    memcpy(&config, bytes, sizeof(config) < sizeof(bytes) ? sizeof(config) : sizeof(bytes));
    ck_assert_uint_eq(le64toh(config.capacity), SECTORS);
    ck_assert_uint_eq(le32toh(config.blk_size), 512);
    ck_assert_uint_eq(le32toh(config.seg_max), 126);
    ck_assert_uint_eq(le32toh(config.max_discard_seg), 1);
    ck_assert_uint_gt(le32toh(config.max_write_zeroes_sectors), 0);
    disk_close(&disk);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blk");
    TCase *tcase = tcase_create("blk");
    const TTest *const tests[] = {
        what_is_written_is_read_and_in_the_file,
        framing_means_nothing,
        sector_overflow_and_past_the_end,
        length_no_multiple_of_512,
        write_to_a_read_only_disk,
        unknown_request_type,
        status_byte_or_header_missing,
        get_id,
        discard_and_write_zeroes,
        host_file_truncated_under_us,
        host_says_no_to_a_write,
        reset_with_io_in_flight,
        without_flush_writes_are_still_right,
        a_random_pattern_matches_a_model,
        many_at_once_end_with_few_interrupts,
        configuration_space,
    };

    tcase_set_timeout(tcase, 30);
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
        tcase_add_loop_test(tcase, tests[i], 0, ARRAY_SIZE(engines));
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
