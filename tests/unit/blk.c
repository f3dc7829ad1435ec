/* SPDX-License-Identifier: MIT */
#include "devices/virtio/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/block/open.h"
#include "tests/unit/driver.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

#define SECTORS 64
/* Guest addresses of a request's parts. */
#define HEADER  DRIVER_BUFFERS
#define DATA    (DRIVER_BUFFERS + 0x10000)
#define STATUS  (DRIVER_BUFFERS + 0xf000)

enum { N = DRIVER_NEXT, W = DRIVER_WRITE, I = DRIVER_INDIRECT };
enum { UNTOUCHED = 0x55 };

#define FLUSH BIT(VIRTIO_BLK_F_FLUSH)

/* If set, called whenever the clock is read. */
static void (*on_clock)(void);

/* If set, the time in microseconds. Each reading advances it by one, however slow the host is. */
static uint64_t ticks;

/* Replaces libc's. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (on_clock)
        on_clock();
    if (ticks > 0) {
        ticks++;
        ret->tv_sec = (time_t)(ticks / 1000000);
        ret->tv_nsec = (long)(ticks % 1000000 * 1000);
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, ret);
}

/* The disk's tests are loop tests over both engines. */
static const enum block_engine engines[] = { BLOCK_ENGINE_IO_URING, BLOCK_ENGINE_THREAD };

struct disk {
    struct driver d;
    char path[64];
    int fd; /* another descriptor of the image */
};

/* Creates a disk without starting a driver. */
static void disk_create(struct disk *disk, enum block_engine engine, bool read_only,
                        unsigned sectors)
{
    struct block_options options = { .path = disk->path, .read_only = read_only, .engine = engine };
    struct virtio_device *device;
    struct block *block;

    driver_init(&disk->d);
    strcpy(disk->path, "/tmp/minivmm-blk-XXXXXX");
    disk->fd = mkstemp(disk->path);
    ck_assert_int_ge(disk->fd, 0);
    ck_assert_int_eq(ftruncate(disk->fd, sectors * 512), 0);
    ck_assert_int_eq(block_open(&block, &options, disk->d.loop), 0);
    unlink(disk->path);
    ck_assert_int_eq(virtio_blk_create(&device, "blk7", block, "", 0, disk->d.mem, disk->d.loop),
                     0);
    driver_find(&disk->d, device);
}

static void disk_open(struct disk *disk, enum block_engine engine, bool read_only,
                      uint64_t features)
{
    disk_create(disk, engine, read_only, SECTORS);
    ck_assert(driver_start(&disk->d, disk->d.device, features));
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

/* Sends the chain at descriptor 0 and waits. Returns its status; `ret_written` may be NULL. */
static unsigned finish(struct disk *disk, uint32_t *ret_written)
{
    driver_publish(&disk->d, 0, 0);
    driver_kick(&disk->d, 0);
    ck_assert(driver_wait(&disk->d, 0, NULL, ret_written));
    return *(uint8_t *)driver_ram(&disk->d, STATUS);
}

/* A request framed as by Linux: header, data, status. `flags` is W for data the device writes. */
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

/* Publishes a request in memory of its own, so that several can be in flight. Does not kick. */
static void put_lane(struct disk *disk, unsigned lane, uint32_t type, uint64_t sector, uint32_t len)
{
    uint64_t header = HEADER + 16 * lane;
    uint16_t flags = type == VIRTIO_BLK_T_IN ? N | W : N;
    uint16_t first = (uint16_t)(3 * lane);

    le32_store(driver_ram(&disk->d, header), type);
    le64_store(driver_ram(&disk->d, header + 8), sector);
    *(uint8_t *)driver_ram(&disk->d, STATUS + lane) = UNTOUCHED;
    driver_describe(&disk->d, 0, first, header, 16, N, first + 1);
    driver_describe(&disk->d, 0, first + 1, DATA + lane * 0x1000, len, flags, first + 2);
    driver_describe(&disk->d, 0, first + 2, STATUS + lane, 1, W, 0);
    driver_publish(&disk->d, 0, first);
}

#define ENGINE engines[_i]

START_TEST(written_data_is_read_back_and_in_the_file)
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

START_TEST(any_framing_is_accepted)
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

START_TEST(length_not_a_multiple_of_512)
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

    disk_open(&disk, ENGINE, true, FLUSH | BIT(VIRTIO_BLK_F_RO));
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

START_TEST(image_truncated_while_open)
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

START_TEST(host_refuses_a_write)
{
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    /* A sealed memory file refuses writes, as a full disk would. */
    {
        int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
        struct block_options options = { .engine = ENGINE };
        struct virtio_device *device;
        struct block *block;
        char path[64];

        ck_assert_int_eq(ftruncate(sealed, SECTORS * 512), 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", sealed);
        options.path = path;
        virtio_destroy(disk.d.device);
        ck_assert_int_eq(block_open(&block, &options, disk.d.loop), 0);
        ck_assert_int_eq(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
        ck_assert_int_eq(virtio_blk_create(&device, "blk8", block, "", 0, disk.d.mem, disk.d.loop),
                         0);
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
        virtio_reset(disk.d.device); /* nothing is in flight afterwards, so memory cannot change */
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

/* Random reads and writes, eight in flight, each in its lane of the disk, against a model. */
START_TEST(a_random_pattern_matches_a_model)
{
    enum { LANES = 8, LANE = SECTORS / LANES };
    static uint8_t model[SECTORS * 512];
    uint8_t expected[LANES][LANE * 512];
    unsigned seed = 42;
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH);
    memset(model, 0, sizeof(model));
    for (unsigned round = 0; round < 100; round++) {
        uint32_t size[LANES];

        for (unsigned lane = 0; lane < LANES; lane++) {
            uint32_t count = 1 + (unsigned)rand_r(&seed) % LANE;
            uint32_t sector = lane * LANE + (unsigned)rand_r(&seed) % (LANE - count + 1);
            uint8_t *data = driver_ram(&disk.d, DATA + lane * 0x1000);
            bool write = rand_r(&seed) % 2;

            size[lane] = count * 512;
            for (uint32_t i = 0; i < size[lane]; i++) {
                data[i] = (uint8_t)rand_r(&seed);
                if (write)
                    model[sector * 512 + i] = data[i];
            }
            memcpy(expected[lane], model + sector * 512, size[lane]);
            put_lane(&disk, lane, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, sector, size[lane]);
        }
        driver_kick(&disk.d, 0);
        for (unsigned lane = 0; lane < LANES; lane++)
            ck_assert(driver_wait(&disk.d, 0, NULL, NULL));
        for (unsigned lane = 0; lane < LANES; lane++) {
            ck_assert_uint_eq(*(uint8_t *)driver_ram(&disk.d, STATUS + lane), VIRTIO_BLK_S_OK);
            ck_assert_mem_eq(driver_ram(&disk.d, DATA + lane * 0x1000), expected[lane], size[lane]);
        }
    }
    disk_close(&disk);
}
END_TEST

/* A limit on the file size acts like a full disk: first a short write, then an error. */
START_TEST(host_disk_full_in_the_middle_of_a_vector)
{
    struct rlimit limit = { 10 * 512, 10 * 512 };
    struct disk disk;
    char file[4096];

    disk_open(&disk, ENGINE, false, FLUSH);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    memset(driver_ram(&disk.d, DATA), 'f', 4096);
    ck_assert_uint_eq(write_disk(&disk, 8, 4096), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(pread(disk.fd, file, sizeof(file), 8 * 512), sizeof(file));
    ck_assert_int_eq(file[1023], 'f');
    ck_assert_int_eq(file[1024], 0);
    ck_assert_uint_eq(write_disk(&disk, 0, 4096), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(read_disk(&disk, 20, 4096), VIRTIO_BLK_S_OK);
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
    ck_assert_uint_eq(le32toh(config.size_max), 64 * KIB);
    ck_assert_uint_eq(le32toh(config.max_discard_seg), 1);
    ck_assert_uint_gt(le32toh(config.max_write_zeroes_sectors), 0);
    disk_close(&disk);
}
END_TEST

/* A back-end that holds requests until the test completes them, and counts calls. */
struct recorder {
    struct block block;
    struct driver d;
    struct block_request *held[VIRTQ_MAX_SIZE];
    unsigned count, commits;
    bool stuck;          /* drain() misses its deadline */
    bool at_once;        /* commit() completes all requests */
    unsigned late;       /* after so many commits a vCPU publishes a request without a kick, */
    unsigned again;      /* and then so many more, four commits apart */
    unsigned to_publish; /* requests a vCPU publishes while the device pops */
};

static void recorder_submit(struct block *block, struct block_request *request)
{
    struct recorder *r = container_of(block, struct recorder, block);

    r->held[r->count++] = request;
    for (unsigned i = 0; i < 4 && r->to_publish > 0; i++, r->to_publish--)
        driver_publish(&r->d, 0, i < 3 ? 3 : 0);
}

static bool recorder_drain(struct block *block, uint64_t deadline_ns)
{
    struct recorder *r = container_of(block, struct recorder, block);

    if (r->stuck && deadline_ns != BLOCK_NO_DEADLINE)
        return r->count == 0;
    if (r->count == 0)
        return true;
    while (r->count > 0) {
        struct block_request *request = r->held[--r->count];

        request->done(request, 0);
    }
    block->completed(block->owner);
    return true;
}

static void recorder_commit(struct block *block)
{
    struct recorder *r = container_of(block, struct recorder, block);

    r->commits++;
    if (r->at_once)
        recorder_drain(block, BLOCK_NO_DEADLINE);
    if (r->late > 0 && --r->late == 0) {
        driver_publish(&r->d, 0, 0);
        if (r->again > 0) {
            r->again--;
            r->late = 4;
        }
    }
}

static void recorder_close(struct block *block)
{
}

static const struct block_ops recorder_ops = {
    .submit = recorder_submit,
    .commit = recorder_commit,
    .drain = recorder_drain,
    .close = recorder_close,
};

/* The chain at 0 reads, writes or zeroes a sector; the one at 3 is GET_ID. */
static void recorder_open_polling(struct recorder *r, int poll_us, uint32_t type, uint64_t features)
{
    struct virtio_device *device;
    bool read = type == VIRTIO_BLK_T_IN, range = type == VIRTIO_BLK_T_WRITE_ZEROES;

    *r = (struct recorder){ .block = { .ops = &recorder_ops,
                                       .size = 1ull << 40,
                                       .logical_size = 512,
                                       .physical_size = 512,
                                       .can_discard = true } };
    driver_init(&r->d);
    ck_assert_int_eq(guest_memory_add(r->d.mem, GIB, GIB, NULL), 0);
    ck_assert_int_eq(
        virtio_blk_create(&device, "blk9", &r->block, "", poll_us, r->d.mem, r->d.loop), 0);
    ck_assert(driver_start(&r->d, device, features));
    le32_store(driver_ram(&r->d, HEADER), type);
    le32_store(driver_ram(&r->d, HEADER + 16), VIRTIO_BLK_T_GET_ID);
    le32_store(driver_ram(&r->d, DATA + 8), 1); /* sectors to zero */
    driver_describe(&r->d, 0, 0, HEADER, 16, N, 1);
    driver_describe(&r->d, 0, 1, DATA, range ? 16 : 512, read ? N | W : N, 2);
    driver_describe(&r->d, 0, 2, STATUS, 1, W, 0);
    driver_describe(&r->d, 0, 3, HEADER + 16, 16, N, 2);
}

static void recorder_open(struct recorder *r, uint32_t type, uint64_t features)
{
    recorder_open_polling(r, 0, type, features);
}

START_TEST(writes_are_durable_unless_flush_was_accepted)
{
    const uint32_t types[] = { VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES };

    for (unsigned i = 0; i < 4; i++) {
        bool flush = i >= 2;
        struct recorder r;

        recorder_open(&r, types[i % 2], (flush ? FLUSH : 0) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
        driver_publish(&r.d, 0, 0);
        driver_kick(&r.d, 0);
        ck_assert_uint_eq(r.count, 1);
        ck_assert_int_eq(r.held[0]->durable, !flush);
        driver_finish(&r.d);
    }
}
END_TEST

START_TEST(a_read_only_disk_refuses_writes)
{
    const uint32_t types[] = { VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        struct recorder r;

        recorder_open(&r, types[i], FLUSH);
        driver_describe(&r.d, 0, 1, DATA, i == 0 ? 512 : 16, N, 2);
        r.block.read_only = true;
        driver_publish(&r.d, 0, 0);
        driver_kick(&r.d, 0);
        ck_assert_uint_eq(r.count, 0);
        ck_assert_uint_eq(*(uint8_t *)driver_ram(&r.d, STATUS), VIRTIO_BLK_S_IOERR);
        driver_finish(&r.d);
    }
}
END_TEST

START_TEST(one_commit_and_one_interrupt_per_batch)
{
    struct recorder r;

    recorder_open(&r, VIRTIO_BLK_T_IN, FLUSH);
    for (unsigned i = 0; i < 16; i++)
        driver_publish(&r.d, 0, 0);
    r.commits = 0;
    driver_kick(&r.d, 0);
    ck_assert_uint_eq(r.count, 16);
    ck_assert_uint_eq(r.commits, 1);
    ck_assert_uint_eq(r.d.interrupts, 0);
    block_drain(&r.block, BLOCK_NO_DEADLINE);
    ck_assert_uint_eq(r.d.interrupts, 1);
    driver_finish(&r.d);
}
END_TEST

START_TEST(a_batch_is_flushed_before_the_next_starts)
{
    struct recorder r;

    recorder_open(&r, VIRTIO_BLK_T_IN, FLUSH);
    r.at_once = true;
    for (unsigned i = 0; i < 40; i++)
        driver_publish(&r.d, 0, 0);
    driver_kick(&r.d, 0);
    ck_assert_uint_eq(r.commits, 3);
    ck_assert_uint_eq(r.d.interrupts, 3);
    for (unsigned i = 0; i < 40; i++)
        ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    driver_finish(&r.d);
}
END_TEST

START_TEST(polling_finds_a_request_without_a_kick)
{
    struct recorder r;

    recorder_open_polling(&r, 1000000, VIRTIO_BLK_T_IN, FLUSH);
    r.at_once = true;
    r.late = 5;
    driver_publish(&r.d, 0, 0);
    r.commits = 0;
    ticks = 1000000;
    driver_kick(&r.d, 0);
    ticks = 0;
    ck_assert_uint_ge(r.commits, 5);
    for (unsigned i = 0; i < 2; i++)
        ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    driver_finish(&r.d);
}
END_TEST

static void recorder_open_auto(struct recorder *r)
{
    recorder_open_polling(r, -1, VIRTIO_BLK_T_IN, FLUSH | BIT(VIRTIO_RING_F_EVENT_IDX));
}

/* Sends a request that completes at once. Does the device poll for the next one? */
static bool is_polled(struct recorder *r)
{
    unsigned commits = r->commits;

    r->at_once = true;
    driver_publish(&r->d, 0, 0);
    driver_kick_if_asked(&r->d, 0);
    ck_assert(driver_wait(&r->d, 0, NULL, NULL));
    return r->commits > commits + 1;
}

/* Adaptive polling. These tests repeat, as the host may preempt them at any moment. */
START_TEST(adaptive_polling_starts_and_succeeds)
{
    struct recorder r;

    recorder_open_auto(&r);
    do
        r.late = 4; /* after the batch's own commit and two polls */
    while (!is_polled(&r) || r.late > 0);
    ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    driver_finish(&r.d);
}
END_TEST

START_TEST(four_polls_that_succeed_pay_for_one_that_fails)
{
    struct recorder r;
    bool found;

    recorder_open_auto(&r);
    do {
        r.late = 4;
        r.again = 3;
        found = is_polled(&r) && r.late == 0;
        r.late = r.again = 0;
        while (r.d.used_seen[0] != r.d.avail_idx[0])
            ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    } while (!found || !is_polled(&r));
    driver_finish(&r.d);
}
END_TEST

START_TEST(failing_polls_are_rare)
{
    struct recorder r;
    unsigned polled = 0;

    recorder_open_auto(&r);
    for (unsigned i = 0; i < 2000; i++)
        polled += is_polled(&r);
    ck_assert_uint_le(polled, 2000 / 64);
    driver_finish(&r.d);
}
END_TEST

START_TEST(a_slow_guest_is_not_polled)
{
    struct recorder r;

    recorder_open_auto(&r);
    for (unsigned i = 0; i < 300; i++) {
        usleep(50);
        ck_assert(!is_polled(&r));
    }
    driver_finish(&r.d);
}
END_TEST

START_TEST(polling_starts_after_completions_but_not_while_in_flight)
{
    struct recorder r;

    recorder_open_auto(&r);
    do {
        r.late = r.commits = 0;
        driver_publish(&r.d, 0, 0);
        driver_kick_if_asked(&r.d, 0);
        ck_assert_uint_eq(r.commits, 1);
        r.late = 3;
        block_drain(&r.block, BLOCK_NO_DEADLINE);
        ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    } while (r.late > 0);
    ck_assert_uint_eq(r.count, 1);
    driver_finish(&r.d);
}
END_TEST

START_TEST(a_reset_starts_no_request)
{
    struct recorder r;

    recorder_open_auto(&r);
    driver_publish(&r.d, 0, 0);
    driver_kick(&r.d, 0);
    driver_publish(&r.d, 0, 0);
    r.commits = 0;
    virtio_reset(r.d.device);
    ck_assert_uint_eq(r.commits, 0);
    driver_finish(&r.d);
}
END_TEST

START_TEST(a_reset_drains_requests_in_flight)
{
    struct recorder r;

    recorder_open(&r, VIRTIO_BLK_T_IN, FLUSH);
    driver_publish(&r.d, 0, 0);
    driver_publish(&r.d, 0, 77); /* breaks the queue while the first request is in flight */
    driver_kick(&r.d, 0);
    ck_assert(driver_broken(&r.d));
    ck_assert_uint_eq(r.count, 1);
    virtio_reset(r.d.device);
    ck_assert_uint_eq(r.count, 0);
    driver_finish(&r.d);
}
END_TEST

static int pause_disk(struct virtio_device *v)
{
    return virtio_pause(v, clock_now_ns() + 5000000000);
}

START_TEST(a_pause_drains_requests_and_starts_none)
{
    struct recorder r;

    recorder_open_auto(&r);
    for (unsigned i = 0; i < 3; i++)
        driver_publish(&r.d, 0, 0);
    driver_kick(&r.d, 0);
    driver_publish(&r.d, 0, 0);
    r.commits = 0;
    ck_assert_int_eq(pause_disk(r.d.device), 0);
    ck_assert_uint_eq(r.commits, 0);
    ck_assert_uint_eq(r.d.interrupts, 1);
    for (unsigned i = 0; i < 3; i++)
        ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    driver_kick(&r.d, 0);
    ck_assert_uint_eq(r.count, 0);
    virtio_resume(r.d.device);
    ck_assert_uint_eq(r.count, 0); /* not on the time of who resumes it */
    loop_turn(r.d.loop, 0);
    ck_assert_uint_eq(r.count, 1);
    block_drain(&r.block, BLOCK_NO_DEADLINE);
    ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    driver_finish(&r.d);
}
END_TEST

START_TEST(a_disk_that_is_stuck_cannot_be_paused)
{
    struct recorder r;

    recorder_open_auto(&r);
    r.stuck = true;
    driver_publish(&r.d, 0, 0);
    driver_kick(&r.d, 0);
    driver_publish(&r.d, 0, 0); /* without a kick */
    ck_assert_int_eq(pause_disk(r.d.device), -ETIMEDOUT);
    loop_turn(r.d.loop, 0);
    ck_assert_uint_eq(r.count, 2); /* the disk has found it */
    driver_publish(&r.d, 0, 0);
    driver_kick_if_asked(&r.d, 0);
    ck_assert_uint_eq(r.count, 3); /* and the kick was read */
    r.stuck = false;
    ck_assert_int_eq(pause_disk(r.d.device), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert(driver_wait(&r.d, 0, NULL, NULL));
    virtio_resume(r.d.device);
    ck_assert(!driver_broken(&r.d));
    driver_finish(&r.d);
}
END_TEST

static void walk(struct disk *disk, struct state *s)
{
    state_section(s, "blk7", 1);
    virtio_state(disk->d.device, s);
    state_end_section(s);
}

/* Pauses at random moments, with always eight requests in flight. */
START_TEST(pauses_under_load)
{
    enum { LANES = 8, ROUNDS = 100 };
    static uint8_t ram[DRIVER_RAM];
    unsigned seed = 7, done = 0;
    struct disk disk;

    disk_open(&disk, ENGINE, false, FLUSH | (_i ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0));
    for (unsigned lane = 0; lane < LANES; lane++)
        put_lane(&disk, lane, lane % 2, lane * 8, 4096);
    driver_kick(&disk.d, 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint32_t head;

        ck_assert_int_eq(pause_disk(disk.d.device), 0);
        memcpy(ram, driver_ram(&disk.d, 0), sizeof(ram));
        loop_turn(disk.d.loop, 0);
        ck_assert_mem_eq(driver_ram(&disk.d, 0), ram, sizeof(ram));
        virtio_resume(disk.d.device);
        for (unsigned i = (unsigned)rand_r(&seed) % LANES; i > 0; i--, done++) {
            ck_assert(driver_wait(&disk.d, 0, &head, NULL));
            ck_assert_uint_eq(*(uint8_t *)driver_ram(&disk.d, STATUS + head / 3), VIRTIO_BLK_S_OK);
            put_lane(&disk, head / 3, head / 3 % 2, head / 3 * 8, 4096);
            driver_kick_if_asked(&disk.d, 0);
        }
    }
    for (unsigned lane = 0; lane < LANES; lane++, done++)
        ck_assert(driver_wait(&disk.d, 0, NULL, NULL));
    ck_assert_uint_eq(virtq_completed(virtio_virtq(disk.d.device, 0)), done);
    ck_assert(!driver_broken(&disk.d));
    disk_close(&disk);
}
END_TEST

START_TEST(state_loads_into_a_disk_of_the_same_geometry)
{
    struct disk old, same, smaller;
    struct state saved, in;

    disk_open(&old, ENGINE, false, FLUSH);
    ck_assert_uint_eq(write_disk(&old, 0, 512), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(pause_disk(old.d.device), 0);
    state_begin_save(&saved);
    walk(&old, &saved);
    ck_assert_int_eq(saved.error, 0);

    disk_create(&same, ENGINE, false, SECTORS);
    driver_adopt(&same.d, &old.d);
    state_begin_load(&in, saved.bytes, saved.at);
    walk(&same, &in);
    ck_assert_int_eq(state_finish(&in), 0);
    virtio_resume(same.d.device);
    ck_assert_uint_eq(write_disk(&same, 1, 512), VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(read_disk(&same, 1, 512), VIRTIO_BLK_S_OK);
    disk_close(&same);

    disk_create(&smaller, ENGINE, false, SECTORS - 1);
    state_begin_load(&in, saved.bytes, saved.at);
    walk(&smaller, &in);
    ck_assert_int_eq(state_finish(&in), -EINVAL);
    ck_assert_str_eq(in.why, "blk7: size is 32256 here, and was 32768");
    disk_close(&smaller);
    state_finish(&saved);
    disk_close(&old);
}
END_TEST

/* A guest that never stops publishing must not keep the loop to itself. */
START_TEST(a_flood_of_requests_yields_the_loop)
{
    struct recorder r;

    recorder_open(&r, VIRTIO_BLK_T_IN, FLUSH);
    r.to_publish = 4 * 59;
    driver_publish(&r.d, 0, 0);
    driver_kick(&r.d, 0);
    ck_assert_uint_gt(r.to_publish, 0);
    for (unsigned i = 0; i < 3; i++)
        loop_turn(r.d.loop, 0); /* continues without another kick */
    ck_assert_uint_eq(r.to_publish, 0);
    ck_assert_uint_eq(r.count, 60);
    driver_finish(&r.d);
}
END_TEST

/* Its data may lie in the same page again and again: a request costs the guest far less. */
START_TEST(a_request_has_a_largest_size)
{
    const uint32_t most = 126 * 64 * (uint32_t)KIB, types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT };

    for (unsigned i = 0; i < 4; i++) {
        struct recorder r;

        recorder_open(&r, types[i % 2], FLUSH);
        driver_describe(&r.d, 0, 1, GIB, most, types[i % 2] == VIRTIO_BLK_T_IN ? N | W : N,
                        i < 2 ? 2 : 3);
        driver_describe(&r.d, 0, 3, GIB, 512, types[i % 2] == VIRTIO_BLK_T_IN ? N | W : N, 2);
        driver_publish(&r.d, 0, 0);
        driver_kick(&r.d, 0);
        ck_assert_uint_eq(r.count, i < 2);
        if (i >= 2)
            ck_assert_uint_eq(*(uint8_t *)driver_ram(&r.d, STATUS), VIRTIO_BLK_S_IOERR);
        driver_finish(&r.d);
    }
}
END_TEST

/* A vCPU that publishes a request whenever the disk polls, and retracts it again. */
static struct driver *retracting;
static unsigned polls;

static void retract(void)
{
    driver_set_avail_idx(retracting, 0, polls++ % 3 == 1);
    if (polls == 3000)
        on_clock = NULL; /* or a failing test would never end */
}

START_TEST(retracted_requests_do_not_keep_the_loop)
{
    struct recorder r;

    recorder_open_polling(&r, 1000000, VIRTIO_BLK_T_IN, FLUSH);
    retracting = &r.d;
    on_clock = retract;
    ticks = 1000000;
    driver_kick(&r.d, 0);
    ticks = 0;
    on_clock = NULL;
    ck_assert_uint_gt(polls, 10);
    ck_assert_uint_lt(polls, 3000);
    ck_assert(!driver_broken(&r.d));
    driver_set_avail_idx(&r.d, 0, 0);
    driver_finish(&r.d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blk");
    TCase *tcase = tcase_create("blk");
    const TTest *const tests[] = {
        written_data_is_read_back_and_in_the_file,
        any_framing_is_accepted,
        sector_overflow_and_past_the_end,
        length_not_a_multiple_of_512,
        write_to_a_read_only_disk,
        unknown_request_type,
        status_byte_or_header_missing,
        get_id,
        discard_and_write_zeroes,
        image_truncated_while_open,
        host_refuses_a_write,
        reset_with_io_in_flight,
        a_random_pattern_matches_a_model,
        host_disk_full_in_the_middle_of_a_vector,
        configuration_space,
        pauses_under_load,
        state_loads_into_a_disk_of_the_same_geometry,
    };

    tcase_set_timeout(tcase, 30);
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
        tcase_add_loop_test(tcase, tests[i], 0, ARRAY_SIZE(engines));
    tcase_add_test(tcase, writes_are_durable_unless_flush_was_accepted);
    tcase_add_test(tcase, a_read_only_disk_refuses_writes);
    tcase_add_test(tcase, one_commit_and_one_interrupt_per_batch);
    tcase_add_test(tcase, a_batch_is_flushed_before_the_next_starts);
    tcase_add_test(tcase, polling_finds_a_request_without_a_kick);
    tcase_add_test(tcase, adaptive_polling_starts_and_succeeds);
    tcase_add_test(tcase, four_polls_that_succeed_pay_for_one_that_fails);
    tcase_add_test(tcase, failing_polls_are_rare);
    tcase_add_test(tcase, a_slow_guest_is_not_polled);
    tcase_add_test(tcase, polling_starts_after_completions_but_not_while_in_flight);
    tcase_add_test(tcase, a_reset_starts_no_request);
    tcase_add_test(tcase, a_reset_drains_requests_in_flight);
    tcase_add_test(tcase, a_pause_drains_requests_and_starts_none);
    tcase_add_test(tcase, a_disk_that_is_stuck_cannot_be_paused);
    tcase_add_test(tcase, a_flood_of_requests_yields_the_loop);
    tcase_add_test(tcase, retracted_requests_do_not_keep_the_loop);
    tcase_add_test(tcase, a_request_has_a_largest_size);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
