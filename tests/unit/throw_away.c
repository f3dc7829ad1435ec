/* SPDX-License-Identifier: MIT */
#include "devices/block/throw_away.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/block/open.h"
#include "tests/unit/firmware.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define SECTOR 512u
#define SIZE   (1u << 20)
#define PAGE   ((uint64_t)sysconf(_SC_PAGESIZE))

static const enum block_engine engines[] = { BLOCK_ENGINE_IO_URING, BLOCK_ENGINE_THREAD };

static char path[] = "/tmp/minivmm-throw-away-XXXXXX";
static uint8_t original[SIZE], expected[SIZE];
static struct loop *loop;
static struct block *disk;
static unsigned completions;

/* Instead of the C library's, as of a file system that makes no holes. */
static bool no_holes;

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (!no_holes)
        return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    errno = EOPNOTSUPP;
    return -1;
}

static void count_completion(void *owner)
{
    completions++;
}

static int open_block(struct block **ret, struct block_options options)
{
    int error;

    options.path = path;
    error = block_open(ret, &options, loop);
    if (!error)
        (*ret)->completed = count_completion;
    return error;
}

/* Opens the image with this engine. Skips the test if the host does not have it. */
static void open_disk(unsigned engine, uint64_t max)
{
    const struct block_options options = { .throw_away = true,
                                           .max = max,
                                           .engine = engines[engine] };
    int error = open_block(&disk, options);

    if (error && engines[engine] == BLOCK_ENGINE_IO_URING)
        unit_skip("no io_uring");
    ck_assert_int_eq(error, 0);
}

static void set_up(void)
{
    int fd;

    log_capture();
    strcpy(path + strlen(path) - 6, "XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    for (unsigned i = 0; i < SIZE; i++)
        original[i] = (uint8_t)(i / SECTOR * 7 + i % 13 + 1);
    memcpy(expected, original, SIZE);
    ck_assert_int_eq(write(fd, original, SIZE), SIZE);
    close(fd);
    loop = loop_create();
    disk = NULL;
}

/* The image is as it was. */
static void tear_down(void)
{
    static uint8_t now[SIZE];
    int fd = open(path, O_RDONLY);
    ssize_t size = read(fd, now, SIZE);

    close(fd);
    unlink(path);
    block_close(disk);
    loop_destroy(loop);
    ck_assert_int_gt(size, 0);
    ck_assert_mem_eq(now, original, (size_t)size);
}

struct waiting {
    struct block_request request;
    bool done;
    int error;
};

static void set_done(struct block_request *request, int error)
{
    struct waiting *waiting = container_of(request, struct waiting, request);

    ck_assert(!waiting->done);
    waiting->done = true;
    waiting->error = error;
}

/* One request for `count` pieces, or without data; 0 or its error. */
static int perform_pieces(struct block *block, enum block_op op, uint64_t offset, uint64_t length,
                          struct iovec *iov)
{
    struct waiting waiting = { .request = { .op = op,
                                            .offset = offset,
                                            .length = length,
                                            .data = { .iov = iov, .length = length },
                                            .done = set_done } };

    block_submit(block, &waiting.request);
    ck_assert(!waiting.done);
    block_commit(block);
    ck_assert(block_drain(block, BLOCK_NO_DEADLINE));
    ck_assert(waiting.done);
    return waiting.error;
}

static int perform(struct block *block, enum block_op op, uint64_t offset, uint64_t length,
                   void *data)
{
    struct iovec iov = { data, length };

    return perform_pieces(block, op, offset, length, &iov);
}

/* Writes this byte to the disk, and to `expected`. */
static void fill(uint64_t offset, uint64_t length, uint8_t byte)
{
    memset(expected + offset, byte, length);
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, offset, length, expected + offset), 0);
}

static void zero(uint64_t offset, uint64_t length)
{
    memset(expected + offset, 0, length);
    ck_assert_int_eq(perform(disk, BLOCK_WRITE_ZEROES, offset, length, NULL), 0);
}

static void discard(uint64_t offset, uint64_t length)
{
    memcpy(expected + offset, original + offset, length);
    ck_assert_int_eq(perform(disk, BLOCK_DISCARD, offset, length, NULL), 0);
}

static void check(uint64_t offset, uint64_t length)
{
    static uint8_t got[SIZE];

    ck_assert_int_eq(perform(disk, BLOCK_READ, offset, length, got), 0);
    ck_assert_mem_eq(got, expected + offset, length);
}

START_TEST(what_is_written_is_read_back_and_not_in_the_image)
{
    open_disk((unsigned)_i, 0);
    ck_assert(!disk->read_only && disk->can_discard);
    ck_assert_uint_eq(disk->size, SIZE);
    check(0, SIZE);
    fill(0, SECTOR, 1);
    fill(3 * SECTOR, 2 * SECTOR, 2);
    fill(63 * SECTOR, 66 * SECTOR, 3);
    fill(SIZE - SECTOR, SECTOR, 4);
    ck_assert_int_eq(perform(disk, BLOCK_FLUSH, 0, 0, NULL), 0);
    for (uint64_t offset = 0; offset < SIZE; offset += 8 * SECTOR)
        check(offset, 8 * SECTOR);
    check(SECTOR, SIZE - SECTOR);
    check(0, SIZE);
    fill(0, SIZE, 5);
    check(0, SIZE);
    ck_assert_uint_gt(completions, 0);
}
END_TEST

/* A read of both kinds of sectors, to many places, of which some are empty. */
START_TEST(pieces_of_a_mixed_read)
{
    static uint8_t got[SIZE];
    struct iovec iov[100];
    uint64_t at = 0;

    open_disk((unsigned)_i, 0);
    for (uint64_t offset = 0; offset < SIZE; offset += 5 * SECTOR)
        fill(offset, SECTOR, 9);
    for (unsigned i = 0; i < ARRAY_SIZE(iov); i++) {
        size_t length = i + 1 == ARRAY_SIZE(iov) ? 64 * SECTOR - at : i % 7 * 100;

        iov[i] = (struct iovec){ got + at, length };
        at += length;
    }
    ck_assert_int_eq(perform_pieces(disk, BLOCK_READ, SECTOR, 64 * SECTOR, iov), 0);
    ck_assert_mem_eq(got, expected + SECTOR, 64 * SECTOR);
}
END_TEST

/* System calls of the same reads. */
START_TEST(reading_the_image_costs_no_more_than_without_the_layer)
{
    static uint8_t got[SIZE];
    struct block_options plain = { .read_only = true, .engine = engines[_i] };
    struct block *image;

    open_disk((unsigned)_i, 0);
    ck_assert_int_eq(open_block(&image, plain), 0);
    fill(SIZE / 2, SECTOR, 1);
    for (uint64_t offset = 0; offset < SIZE / 2; offset += SIZE / 16) {
        ck_assert_int_eq(perform(disk, BLOCK_READ, offset, SIZE / 16, got), 0);
        ck_assert_int_eq(perform(image, BLOCK_READ, offset, SIZE / 16, got), 0);
    }
    ck_assert_uint_eq(disk->calls, image->calls);
    block_close(image);
}
END_TEST

START_TEST(requests_of_one_batch_are_done_in_their_order)
{
    static uint8_t first[8 * SECTOR], second[8 * SECTOR], data[SECTOR];
    struct iovec iov[] = { { first, sizeof(first) }, { data, SECTOR }, { second, sizeof(second) } };
    struct waiting w[3];

    open_disk((unsigned)_i, 0);
    memset(data, 0xee, SECTOR);
    for (unsigned i = 0; i < 3; i++) {
        w[i] = (struct waiting){ .request = { .op = i == 1 ? BLOCK_WRITE : BLOCK_READ,
                                              .length = iov[i].iov_len,
                                              .data = { .iov = &iov[i], .length = iov[i].iov_len },
                                              .done = set_done } };
        block_submit(disk, &w[i].request);
    }
    ck_assert(block_drain(disk, BLOCK_NO_DEADLINE));
    for (unsigned i = 0; i < 3; i++)
        ck_assert(w[i].done && !w[i].error);
    ck_assert_mem_eq(first + SECTOR, original + SECTOR, 7 * SECTOR);
    ck_assert_mem_eq(second, data, SECTOR);
    ck_assert_mem_eq(second + SECTOR, original + SECTOR, 7 * SECTOR);
}
END_TEST

START_TEST(zeroes_are_zero_and_a_discard_shows_the_image)
{
    open_disk((unsigned)_i, 0);
    fill(0, SIZE / 2, 1);
    zero(SECTOR, 100 * SECTOR);
    zero(SIZE / 2 + SECTOR, 3 * SECTOR); /* nothing is there yet */
    check(0, SIZE);
    fill(50 * SECTOR, SECTOR, 2);
    discard(40 * SECTOR, 30 * SECTOR);
    check(0, SIZE);
    fill(45 * SECTOR, SECTOR, 3); /* in a page that was discarded */
    zero(41 * SECTOR, SECTOR);
    check(0, SIZE);
    discard(0, SIZE);
    check(0, SIZE);
    ck_assert_mem_eq(expected, original, SIZE);
}
END_TEST

/* Its layer is as if it had just been opened, and has room again. */
START_TEST(a_rewound_disk_is_the_image)
{
    uint8_t data[SECTOR] = { 0 };

    open_disk((unsigned)_i, 4 * PAGE);
    for (unsigned round = 0; round < 2; round++) {
        ck_assert(block_can_rewind(disk));
        for (unsigned i = 0; i < 3; i++)
            fill((2 * i + round) * PAGE, SECTOR, 1);
        ck_assert_int_eq(perform(disk, BLOCK_WRITE, 8 * PAGE, SECTOR, data), -ENOSPC);
        ck_assert(logged("throw-away layer is full"));
        ck_assert_int_eq(block_rewind(disk), 0);
        memcpy(expected, original, SIZE);
        check(0, SIZE);
    }
}
END_TEST

/* Room for four pages: three of data and one of the map. */
START_TEST(a_full_layer_fails_writes_and_keeps_what_it_has)
{
    uint8_t data[SECTOR] = { 0 };

    open_disk((unsigned)_i, 4 * PAGE);
    for (unsigned i = 0; i < 3; i++)
        fill(2 * i * PAGE, SECTOR, 1);
    ck_assert(!logged("full"));
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, 6 * PAGE, SECTOR, data), -ENOSPC);
    ck_assert(logged("throw-away layer is full"));
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, 8 * PAGE, SECTOR, data), -ENOSPC);
    /* The first page of this one is there. */
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, PAGE - SECTOR, 2 * SECTOR, original), -ENOSPC);
    ck_assert(!logged("full")); /* once is enough */
    check(0, SIZE);
    fill(SECTOR, PAGE - SECTOR, 2);
    zero(8 * PAGE, PAGE);
    check(0, SIZE);

    zero(0, PAGE); /* gives one back */
    fill(12 * PAGE, SECTOR, 3);
    discard(2 * PAGE, PAGE);
    fill(14 * PAGE, PAGE, 4);
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, 0, SECTOR, data), -ENOSPC);
    check(0, SIZE);
}
END_TEST

START_TEST(without_memory_nothing_can_be_written)
{
    uint8_t data[SECTOR] = { 0 };

    open_disk((unsigned)_i, 1);
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, 0, SECTOR, data), -ENOSPC);
    ck_assert_int_eq(perform(disk, BLOCK_WRITE_ZEROES, 0, SECTOR, NULL), -ENOSPC);
    ck_assert_int_eq(perform(disk, BLOCK_DISCARD, 0, SIZE, NULL), 0);
    check(0, SIZE);
}
END_TEST

START_TEST(an_image_that_is_truncated_meanwhile)
{
    static uint8_t got[SIZE];

    open_disk((unsigned)_i, 0);
    fill(SIZE - 8 * SECTOR, 4 * SECTOR, 1);
    ck_assert_int_eq(truncate(path, SIZE / 2), 0);
    check(0, SIZE / 2);
    check(SIZE - 8 * SECTOR, 4 * SECTOR);
    ck_assert_int_eq(perform(disk, BLOCK_READ, SIZE / 2, SECTOR, got), -EIO);
    ck_assert_int_eq(perform(disk, BLOCK_READ, SIZE - 8 * SECTOR, 8 * SECTOR, got), -EIO);
    fill(SIZE - 4 * SECTOR, 4 * SECTOR, 2);
    check(SIZE - 8 * SECTOR, 8 * SECTOR);
}
END_TEST

START_TEST(several_machines_use_one_image)
{
    struct block *other, *reader, *writer = NULL;

    ck_assert_int_eq(chmod(path, 0400), 0);
    open_disk((unsigned)_i, 0);
    ck_assert_int_eq(open_block(&other, (struct block_options){ .throw_away = true }), 0);
    ck_assert_int_eq(open_block(&reader, (struct block_options){ .read_only = true }), 0);
    ck_assert_int_eq(chmod(path, 0600), 0);
    ck_assert_int_eq(open_block(&writer, (struct block_options){ 0 }), -EBUSY);
    ck_assert(logged("throw-away"));
    ck_assert_ptr_null(writer);
    ck_assert_int_eq(perform(other, BLOCK_WRITE, 0, SECTOR, (uint8_t[SECTOR]){ 1 }), 0);
    check(0, SIZE);
    block_close(other);
    block_close(reader);
    block_close(disk);
    disk = NULL;
    ck_assert_int_eq(open_block(&writer, (struct block_options){ 0 }), 0);
    ck_assert_int_eq(open_block(&other, (struct block_options){ .throw_away = true }), -EBUSY);
    block_close(writer);
}
END_TEST

/* What was written arrives in another layer over the same image. */
START_TEST(pieces_are_all_that_was_written)
{
    struct throw_away_piece piece;
    struct block *old;
    uint64_t at = 0, written = 0, zeros = 0;

    open_disk((unsigned)_i, 0);
    ck_assert(!throw_away_next(disk, &at, &piece));
    fill(SECTOR, SECTOR, 1);
    fill(SIZE / 4, SIZE / 4, 2);
    zero(SIZE / 4 + SECTOR, 32 * SECTOR);
    discard(SIZE / 2 - 3 * SECTOR, SECTOR);
    fill(SIZE - SECTOR, SECTOR, 3);
    zero(SIZE * 3 / 4, PAGE); /* never in memory */
    old = disk;
    open_disk((unsigned)_i, 0);
    while (throw_away_next(old, &at, &piece)) {
        ck_assert_uint_eq(piece.offset % SECTOR + piece.length % SECTOR, 0);
        ck_assert_uint_eq(piece.offset + piece.length, at);
        written += piece.length;
        zeros += piece.bytes ? 0 : piece.length;
        ck_assert_int_eq(perform(disk, piece.bytes ? BLOCK_WRITE : BLOCK_WRITE_ZEROES, piece.offset,
                                 piece.length, (void *)piece.bytes),
                         0);
    }
    ck_assert_uint_eq(written, SIZE / 4 + SECTOR + PAGE);
    ck_assert_uint_ge(zeros, PAGE);
    check(0, SIZE);
    block_close(old);
}
END_TEST

static unsigned dice(unsigned sides)
{
    static uint64_t state = 1;

    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % sides;
}

/* The same requests to a plain image: what the guest sees is the same. */
START_TEST(as_a_plain_image)
{
    static uint8_t data[SIZE], ours[SIZE], theirs[SIZE];
    char copy[] = "/tmp/minivmm-throw-away-XXXXXX";
    const struct block_options options = { .path = copy };
    int fd = mkstemp(copy);
    struct block *plain;

    ck_assert_int_eq(write(fd, original, SIZE), SIZE);
    close(fd);
    ck_assert_int_eq(block_open(&plain, &options, loop), 0);
    plain->completed = count_completion;
    open_disk((unsigned)_i, 0);
    for (unsigned i = 0; i < 2000; i++) {
        static const enum block_op ops[] = { BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE_ZEROES };
        enum block_op op = ops[dice(3)];
        unsigned first = dice(SIZE / SECTOR), most = SIZE / SECTOR - first;
        unsigned count = 1 + dice(dice(8) ? (most < 40 ? most : 40) : most);
        uint64_t offset = first * SECTOR, length = count * SECTOR;

        memset(data, (int)dice(256), length);
        ck_assert_int_eq(perform(plain, op, offset, length, op == BLOCK_READ ? theirs : data), 0);
        ck_assert_int_eq(perform(disk, op, offset, length, op == BLOCK_READ ? ours : data), 0);
        if (op == BLOCK_READ)
            ck_assert_mem_eq(ours, theirs, length);
    }
    ck_assert_int_eq(perform(plain, BLOCK_READ, 0, SIZE, theirs), 0);
    ck_assert_int_eq(perform(disk, BLOCK_READ, 0, SIZE, ours), 0);
    ck_assert_mem_eq(ours, theirs, SIZE);
    block_close(plain);
    unlink(copy);
}
END_TEST

/* 64 GiB: only what is written costs memory. */
START_TEST(a_huge_image)
{
    uint64_t size = 64 * GIB;
    uint8_t data[2 * SECTOR], got[2 * SECTOR];

    if (truncate(path, (off_t)size) < 0)
        unit_skip("no file of 64 GiB");
    open_disk((unsigned)_i, 4 * PAGE);
    ck_assert_uint_eq(disk->size, size);
    memset(data, 7, sizeof(data));
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, size - SECTOR, SECTOR, data), 0);
    ck_assert_int_eq(perform(disk, BLOCK_READ, size - 2 * SECTOR, 2 * SECTOR, got), 0);
    memset(data, 0, SECTOR);
    ck_assert_mem_eq(got, data, 2 * SECTOR);
    ck_assert_int_eq(perform(disk, BLOCK_DISCARD, size - (2ull << 30), 2ull << 30, NULL), 0);
    ck_assert_int_eq(perform(disk, BLOCK_WRITE, size / 2, SECTOR, data), 0);
    ck_assert_int_eq(truncate(path, SIZE), 0);
}
END_TEST

/* The image, with what was written, zeroed and discarded since. */
START_TEST(a_copy_has_what_the_guest_sees)
{
    static uint8_t got[SIZE];
    int to = memfd_create("copy", MFD_CLOEXEC);

    open_disk((unsigned)_i, 0);
    fill(SECTOR, 3 * SECTOR, 1);
    fill(16 * SECTOR, 64 * SECTOR, 2);
    zero(20 * SECTOR, 30 * SECTOR);
    zero(200 * SECTOR, 100 * SECTOR);
    fill(210 * SECTOR, SECTOR, 3);
    discard(60 * SECTOR, 4 * SECTOR);
    fill(SIZE - SECTOR, SECTOR, 4);
    ck_assert_int_eq(block_copy(disk, to, SIZE), 0);
    ck_assert_int_eq(pread(to, got, SIZE, 0), SIZE);
    ck_assert_mem_eq(got, expected, SIZE);
    no_holes = true;
    ck_assert_int_eq(ftruncate(to, 0), 0);
    ck_assert_int_eq(block_copy(disk, to, SIZE), 0);
    no_holes = false;
    ck_assert_int_eq(pread(to, got, SIZE, 0), SIZE);
    ck_assert_mem_eq(got, expected, SIZE);
    ck_assert_int_eq(block_copy(disk, memfd_create("small", MFD_CLOEXEC), SIZE / 2), -EFBIG);
    close(to);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_is_written_is_read_back_and_not_in_the_image,
        pieces_of_a_mixed_read,
        reading_the_image_costs_no_more_than_without_the_layer,
        requests_of_one_batch_are_done_in_their_order,
        zeroes_are_zero_and_a_discard_shows_the_image,
        a_rewound_disk_is_the_image,
        a_full_layer_fails_writes_and_keeps_what_it_has,
        without_memory_nothing_can_be_written,
        an_image_that_is_truncated_meanwhile,
        several_machines_use_one_image,
        pieces_are_all_that_was_written,
        a_copy_has_what_the_guest_sees,
        as_a_plain_image,
        a_huge_image,
    };
    Suite *suite = suite_create("throw_away");
    TCase *tcase = tcase_create("throw_away");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
        tcase_add_loop_test(tcase, tests[i], 0, ARRAY_SIZE(engines));
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
