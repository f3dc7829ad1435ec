/* SPDX-License-Identifier: MIT */
#include "firmware/boot/arm64_image.h"

#include <errno.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/unit/arm.h"
#include "tests/unit/unit.h"

#define RAM       (32 * MIB)
#define FILE_SIZE 200000u
#define NEEDS     MIB /* in memory, with BSS */

static struct guest_memory *mem;
static struct hardware hw;
static struct arm64_kernel kernel;
static uint8_t file[FILE_SIZE];
static uint8_t wrapped[2 * FILE_SIZE];

static void set_up(void)
{
    mem = made_ram(RAM_BASE, RAM);
    hw = made_arm(RAM, 1, 0);
    for (unsigned i = 0; i < FILE_SIZE; i++)
        file[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16));
    made_arm64_header(file, 0, NEEDS, 0);
    log_capture();
}

static void tear_down(void)
{
    guest_memory_destroy(mem);
}

static int load(const void *bytes, size_t size)
{
    struct image image = made_image(bytes, size);
    int result = arm64_image_load(&image, mem, &hw, &kernel);

    image_close(&image);
    return result;
}

static void expect_loaded(uint64_t offset)
{
    static const uint8_t nothing[4096];

    ck_assert_uint_eq(kernel.entry, RAM_BASE + offset);
    ck_assert_uint_eq(kernel.end, RAM_BASE + offset + NEEDS);
    ck_assert_mem_eq(guest_ptr(mem, kernel.entry, FILE_SIZE), file, FILE_SIZE);
    ck_assert_mem_eq(guest_ptr(mem, kernel.entry + FILE_SIZE, 4096), nothing, 4096);
}

static size_t wrap_gzip(uint8_t *to)
{
    z_stream z = {
        .next_in = file, .avail_in = FILE_SIZE, .next_out = to, .avail_out = sizeof(wrapped) - 512
    };

    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

static size_t wrap_zstd(uint8_t *to)
{
    return ZSTD_compress(to, sizeof(wrapped) - 512, file, FILE_SIZE, 3);
}

static size_t wrap_xz(uint8_t *to)
{
    size_t size = 0;

    ck_assert_int_eq(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, file, FILE_SIZE, to, &size,
                                             sizeof(wrapped) - 512),
                     LZMA_OK);
    return size;
}

static const struct {
    const char *name;
    size_t (*wrap)(uint8_t *to);
} compressions[] = { { "gzip", wrap_gzip }, { "zstd22", wrap_zstd }, { "xzkern", wrap_xz } };

/* A zboot program: header, compressed kernel and `trailer` further bytes, as Linux makes it. */
static size_t make_zboot(unsigned compression, size_t trailer)
{
    const uint32_t offset = 400;
    uint32_t size = (uint32_t)(compressions[compression].wrap(wrapped + offset) + trailer);

    memset(wrapped, 0, offset);
    memcpy(wrapped, "MZ\0\0zimg", 8);
    memcpy(wrapped + 8, &offset, 4);
    memcpy(wrapped + 12, &size, 4);
    strcpy((char *)wrapped + 24, compressions[compression].name);
    return offset + size;
}

START_TEST(plain)
{
    static const uint64_t offsets[] = { 0, 0x80000, 2 * MIB };

    made_arm64_header(file, offsets[_i], NEEDS, 0xa);
    ck_assert_int_eq(load(file, FILE_SIZE), 0);
    expect_loaded(offsets[_i]);
}
END_TEST

START_TEST(compressed)
{
    ck_assert_int_eq(load(wrapped, compressions[_i].wrap(wrapped)), 0);
    expect_loaded(0);
}
END_TEST

START_TEST(zboot)
{
    ck_assert_int_eq(load(wrapped, make_zboot((unsigned)_i, 4)), 0);
    expect_loaded(0);
}
END_TEST

/* What follows the kernel in the file (a signature) is not loaded. */
START_TEST(file_larger_than_the_kernel)
{
    made_arm64_header(file, 0, 4096, 0);
    ck_assert_int_eq(load(file, FILE_SIZE), 0);
    ck_assert_mem_eq(guest_ptr(mem, RAM_BASE, 4096), file, 4096);
    ck_assert_uint_eq(*(uint8_t *)guest_ptr(mem, RAM_BASE + 4096, 1), 0);
    made_arm64_header(file, 0, 100, 0); /* less than the loader reads first */
    ck_assert_int_eq(load(file, FILE_SIZE), 0);
}
END_TEST

static const struct {
    uint64_t offset, size, flags;
    int error;
    const char *words;
} headers[] = {
    { 0, NEEDS, 1, -EINVAL, "big-endian" },
    { 0, 0, 0, -EINVAL, "older than Linux 3.17" },
    { 0, RAM - FDT_SIZE + 1, 0, -ENOMEM, "the guest has 30; raise --memory" },
    { RAM - FDT_SIZE, 1, 0, -ENOMEM, "raise --memory" },
    { RAM - FDT_SIZE + 1, 1, 0, -ENOMEM, "raise --memory" },
    { UINT64_MAX, 2, 0, -EINVAL, "is damaged" },
    { 2, UINT64_MAX, 0, -EINVAL, "is damaged" },
    { 1ull << 63, 1ull << 63, 0, -EINVAL, "is damaged" },
};

START_TEST(bad_header)
{
    made_arm64_header(file, headers[_i].offset, headers[_i].size, headers[_i].flags);
    ck_assert_int_eq(load(file, FILE_SIZE), headers[_i].error);
    ck_assert(logged(headers[_i].words));
    ck_assert_int_eq(load(wrapped, wrap_gzip(wrapped)), headers[_i].error);
    ck_assert(logged(headers[_i].words));
}
END_TEST

START_TEST(fits_to_the_byte)
{
    made_arm64_header(file, 4096, RAM - FDT_SIZE - 4096, 0);
    ck_assert_int_eq(load(file, FILE_SIZE), 0);
    ck_assert_uint_eq(kernel.end, hw.fdt.base);
}
END_TEST

/* A PE header, if any, tells the kernel's length. */
START_TEST(plain_but_truncated)
{
    const uint32_t pe_offset = 64;
    const struct {
        char magic[4];
        uint16_t machine, sections;
        uint32_t unused[3];
        uint16_t optional_size, flags;
        uint32_t optional[5];
        struct {
            uint32_t unused[4], size, offset, unused_too[4];
        } section[2];
    } pe = { .magic = "PE",
             .sections = 2,
             .optional_size = 20,
             .section = { { .size = 4096, .offset = FILE_SIZE - 4096 }, { .offset = 4096 } } };

    memcpy(file + 60, &pe_offset, 4);
    memcpy(file + pe_offset, &pe, sizeof(pe));
    ck_assert_int_eq(load(file, FILE_SIZE), 0);
    ck_assert_int_eq(load(file, FILE_SIZE - 1), -EINVAL);
    ck_assert(logged("made is truncated: its kernel ends after 199999 of 200000 bytes"));
}
END_TEST

/* PE headers outside of the bytes read first, or with more sections than these hold. */
START_TEST(pe_header_out_of_bounds)
{
    static const uint32_t offsets[] = { 64, 2047, 2048 - 24, 2048, UINT32_MAX };

    memcpy(file + 60, &offsets[_i], 4);
    if (offsets[_i] <= 2048 - 24) {
        memset(file + offsets[_i], 0xff, 24);
        memcpy(file + offsets[_i], "PE\0", 4);
    }
    ck_assert_int_eq(load(file, FILE_SIZE), 0); /* loaded like a kernel without one */
}
END_TEST

/* Cut off at many lengths: refused with one line, as truncated or as another kind of file. */
START_TEST(truncated)
{
    size_t size = _i < 2 ? compressions[_i].wrap(wrapped) : make_zboot((unsigned)_i - 2, 0);

    for (size_t length = 1; length < size; length += 1 + length / 3) {
        ck_assert_int_eq(load(wrapped, length), -EINVAL);
        ck_assert(logged("made is "));
    }
    ck_assert_int_eq(load(wrapped, size - 1), -EINVAL);
    ck_assert(logged("truncated"));
}
END_TEST

START_TEST(damaged)
{
    size_t size = compressions[_i].wrap(wrapped);

    memset(wrapped + size / 8, 0xff, size / 2);
    ck_assert_int_eq(load(wrapped, size), -EINVAL);
    ck_assert(logged("made is damaged"));
}
END_TEST

/* The kernel's header bounds what is decompressed. */
START_TEST(decompression_bomb)
{
    made_arm64_header(file, 0, 8192, 0);
    ck_assert_int_eq(load(wrapped, wrap_gzip(wrapped)), 0);
    ck_assert_uint_eq(*(uint8_t *)guest_ptr(mem, RAM_BASE + 8192, 1), 0);
}
END_TEST

static const struct {
    uint32_t offset, size;
} zboot_ranges[] = {
    { UINT32_MAX, 1 }, { 1, UINT32_MAX }, { UINT32_MAX, UINT32_MAX }, { 400, 1u << 31 }
};

START_TEST(zboot_points_past_the_end)
{
    size_t size = make_zboot(0, 0);

    memcpy(wrapped + 8, &zboot_ranges[_i].offset, 4);
    memcpy(wrapped + 12, &zboot_ranges[_i].size, 4);
    ck_assert_int_eq(load(wrapped, size), -EINVAL);
    ck_assert(logged("truncated"));
}
END_TEST

static const struct {
    size_t offset;
    const char *bytes, *words;
} others[] = {
    { 0x202, "HdrS", "an x86 kernel; name an arm64 Image" },
    { 48, "RSC\x05", "a RISC-V kernel" },
    { 0,
      "\x7f"
      "ELF",
      "an ELF program" },
    { 0, "070701", "--initrd" },
    { 0, "BZh9", "bunzip2" },
    { 0, "#!/bin/sh\n", "a text file; name an arm64 Image" },
};

START_TEST(other_kinds_of_files)
{
    memset(file, 0, sizeof(file));
    memcpy(file + others[_i].offset, others[_i].bytes, strlen(others[_i].bytes));
    ck_assert_int_eq(load(file, FILE_SIZE), -EINVAL);
    ck_assert(logged(others[_i].words));
    ck_assert_int_eq(load(wrapped, wrap_gzip(wrapped)), -EINVAL); /* compressed, too */
    ck_assert(logged(others[_i].words));
}
END_TEST

START_TEST(zboot_of_another_compression)
{
    size_t size = make_zboot(0, 0);

    strcpy((char *)wrapped + 24, "lzma");
    ck_assert_int_eq(load(wrapped, size), -EINVAL);
    ck_assert(logged("compressed by lzma"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arm64_image");
    TCase *tests = tcase_create("arm64_image");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, plain, 0, 3);
    tcase_add_loop_test(tests, compressed, 0, ARRAY_SIZE(compressions));
    tcase_add_loop_test(tests, zboot, 0, ARRAY_SIZE(compressions));
    tcase_add_test(tests, file_larger_than_the_kernel);
    tcase_add_loop_test(tests, bad_header, 0, ARRAY_SIZE(headers));
    tcase_add_test(tests, fits_to_the_byte);
    tcase_add_test(tests, plain_but_truncated);
    tcase_add_loop_test(tests, pe_header_out_of_bounds, 0, 5);
    tcase_add_loop_test(tests, truncated, 0, 4);
    tcase_add_loop_test(tests, damaged, 0, ARRAY_SIZE(compressions));
    tcase_add_test(tests, decompression_bomb);
    tcase_add_loop_test(tests, zboot_points_past_the_end, 0, ARRAY_SIZE(zboot_ranges));
    tcase_add_loop_test(tests, other_kinds_of_files, 0, ARRAY_SIZE(others));
    tcase_add_test(tests, zboot_of_another_compression);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
