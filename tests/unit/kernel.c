/* SPDX-License-Identifier: MIT */
#include "vmm/run/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <zlib.h>

#include "firmware/boot/uki.h"
#include "tests/unit/firmware.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

#define PIECE (64 * KIB) /* as in kernel.c */
#define SIZE  (3 * PIECE)

static uint8_t file[SIZE], wrapped[SIZE];
static char version[KERNEL_VERSION_SIZE];
static char tree[64];

static void set_up(void)
{
    memset(file, 0, SIZE);
    strcpy(version, "untouched");
    tree_make(tree);
    log_capture();
}

static void tear_down(void)
{
    tree_remove(tree);
}

static int read_version(const void *bytes, size_t size)
{
    struct image image = made_image(bytes, size);
    int error = kernel_version(version, &image);

    image_close(&image);
    return error;
}

static void put(size_t at, const char *text)
{
    memcpy(file + at, text, strlen(text));
}

/* Makes a bzImage whose version is at `at`. */
static size_t make_bzimage(uint16_t at, const char *text)
{
    const uint16_t offset = (uint16_t)(at - 512);

    put(0x202, "HdrS");
    memcpy(file + 0x20e, &offset, 2);
    put(at, text);
    return SIZE;
}

START_TEST(bzimage)
{
    size_t size = make_bzimage(0x3000, "6.1.0-9-amd64 (me@here) #1 SMP");

    ck_assert_int_eq(read_version(file, size), 0);
    ck_assert_str_eq(version, "6.1.0-9-amd64");
    ck_assert_int_eq(read_version(file, 0x3000 + 14), 0); /* the file ends after the version */
    ck_assert_int_eq(read_version(file, 0x3000 + 13), -EINVAL);
    ck_assert(logged("has no Linux version"));
    ck_assert_int_eq(read_version(file, 0x2000), -EINVAL);
}
END_TEST

static const char *const no_versions[] = {
    "",
    "six.one (me)",
    "6.1/../../etc (me)",
    "6.1\n (me)",
    "6.1\x80 (me)",
    "6.1-0123456789012345678901234567890123456789012345678901234567890123456789 (me)",
};

START_TEST(bzimage_without_a_version)
{
    ck_assert_int_eq(read_version(file, make_bzimage(0x3000, no_versions[_i])), -EINVAL);
    ck_assert_str_eq(version, "untouched");
    ck_assert(logged("has no Linux version"));
}
END_TEST

static const size_t banner_places[] = {
    0, 100, PIECE - 40, PIECE - 20, PIECE - 14, PIECE - 1, PIECE, 2 * PIECE - 30, SIZE - 31,
};

START_TEST(banner_anywhere)
{
    put(banner_places[_i], "Linux version 5.10.3+ (me@here)");
    ck_assert_int_eq(read_version(file, SIZE), 0);
    ck_assert_str_eq(version, "5.10.3+");
}
END_TEST

START_TEST(banner_formats_are_skipped)
{
    put(5000, "Linux version %s (");
    put(6000, "Linux version ");
    put(7000, "Linux version 6.12 (");
    ck_assert_int_eq(read_version(file, SIZE), 0);
    ck_assert_str_eq(version, "6.12");
}
END_TEST

START_TEST(no_banner)
{
    put(SIZE - 17, "Linux version 6.1"); /* cut off */
    ck_assert_int_eq(read_version(file, SIZE), -EINVAL);
    ck_assert(logged("has no Linux version"));
    ck_assert_int_eq(read_version(file, 1), -EINVAL);
}
END_TEST

/* A file may stand for far more than it holds. */
START_TEST(no_search_without_end)
{
    cleanup_close int fd = memfd_create("kernel", MFD_CLOEXEC);
    struct image image = { .fd = fd, .path = "huge", .size = 1 * GIB + 2 * MIB };

    ck_assert_int_eq(ftruncate(fd, (off_t)image.size), 0);
    ck_assert_int_gt(pwrite(fd, "Linux version 6.1.0 ", 20, (off_t)(1 * GIB + MIB)), 0);
    ck_assert_int_eq(kernel_version(version, &image), -EINVAL);
}
END_TEST

START_TEST(banner_in_a_gzip_file)
{
    z_stream z = {
        .next_in = file, .avail_in = SIZE, .next_out = wrapped, .avail_out = sizeof(wrapped)
    };

    put(PIECE + 7, "Linux version 6.6.1 (");
    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    ck_assert_int_eq(read_version(wrapped, z.total_out), 0);
    ck_assert_str_eq(version, "6.6.1");
    ck_assert_int_eq(read_version(wrapped, 20), -EINVAL);
    ck_assert(logged("truncated"));
}
END_TEST

/* Kernels on a host. */

static char running[65];

static size_t made_kernel(uint8_t bytes[1024], const char *release)
{
    const uint16_t text = 0x300 - 512;

    memset(bytes, 0, 1024);
    memcpy(bytes + 0x202, "HdrS", 4);
    memcpy(bytes + 0x20e, &text, 2);
    sprintf((char *)bytes + 0x300, "%s (me@here)", release);
    return 1024;
}

static void put_kernel(const char *name, const char *release)
{
    uint8_t bytes[1024];
    size_t size = made_kernel(bytes, release);

    tree_put(tree, name, bytes, size);
}

/* Puts a section .linux at offset 4096, after another section. `memory_size` is its true size. */
static size_t made_uki(const uint8_t *kernel, size_t kernel_size, uint32_t memory_size)
{
    const uint32_t pe = 0x80, offset = 4096, size = (uint32_t)kernel_size;
    const uint16_t sections = 2, optional = 240;
    uint8_t *table = file + pe + 24 + optional;

    memset(file, 0, SIZE);
    memcpy(file, "MZ", 2);
    memcpy(file + 0x3c, &pe, 4);
    memcpy(file + pe, "PE\0", 4);
    memcpy(file + pe + 6, &sections, 2);
    memcpy(file + pe + 20, &optional, 2);
    memcpy(table, ".text", 5);
    memcpy(table + 40, ".linux", 6);
    memcpy(table + 48, &memory_size, 4);
    memcpy(table + 56, &size, 4);
    memcpy(table + 60, &offset, 4);
    memcpy(file + offset, kernel, kernel_size);
    return offset + kernel_size;
}

static void put_uki(const char *name, const char *release)
{
    uint8_t bytes[1024];
    size_t size = made_kernel(bytes, release);

    size = made_uki(bytes, size, (uint32_t)size);
    tree_put(tree, name, file, size);
}

static void set_up_host(void)
{
    struct utsname host;

    set_up();
    ck_assert_int_eq(uname(&host), 0);
    strcpy(running, host.release);
}

static void expect_kernel(const char *name, const char *release)
{
    char wanted[256], *found = NULL;

    snprintf(wanted, sizeof(wanted), "%s/%s", tree, name);
    ck_assert_int_eq(kernel_find(&found, version, tree), 0);
    ck_assert_str_eq(found, wanted);
    ck_assert_str_eq(version, release);
    ck_assert_int_eq(lseek(STDERR_FILENO, 0, SEEK_END), 0); /* nothing is logged */
    free(found);
}

START_TEST(the_running_or_the_newest_kernel)
{
    char name[128];

    put_kernel("boot/vmlinuz-6.9.1", "6.9.1");
    put_kernel("boot/vmlinuz-6.10.0-2", "6.10.0-2");
    put_kernel("boot/vmlinuz-6.10.0-1", "6.10.0-1");
    put_kernel("boot/vmlinuz-6.9.old", "6.9.1");
    tree_put_text(tree, "boot/config-8.0", "8.0");
    tree_put_text(tree, "boot/vmlinuz-9.0", "not a kernel");
    put_kernel("boot/vmlinuz-9.1/x", "9.1"); /* in a directory */
    expect_kernel("boot/vmlinuz-6.10.0-2", "6.10.0-2");

    put_kernel("boot/Image-6.11", "6.11");
    expect_kernel("boot/Image-6.11", "6.11");

    snprintf(name, sizeof(name), "boot/vmlinuz-%s", running);
    put_kernel("boot/vmlinuz-99", "99");
    put_kernel(name, running);
    expect_kernel(name, running);
}
END_TEST

START_TEST(the_version_is_in_the_file)
{
    char name[128];

    put_kernel("boot/vmlinuz-linux-lts", "6.6.1-1-lts");
    put_kernel("boot/vmlinuz-linux", "6.12.1-arch1-1");
    put_kernel("boot/vmlinuz", "6.11");
    tree_put_text(tree, "boot/initramfs-linux.img", "Linux version 99 (not a kernel)");
    expect_kernel("boot/vmlinuz-linux", "6.12.1-arch1-1");

    put_kernel("boot/bzImage", running); /* what runs may be older */
    expect_kernel("boot/bzImage", running);

    snprintf(name, sizeof(name), "boot/vmlinuz-%s", running);
    put_kernel(name, "99"); /* a name that lies */
    expect_kernel("boot/bzImage", running);
}
END_TEST

static const char *const places[] = {
    "boot/anything",
    "usr/lib/modules/1.2/vmlinuz",
    "lib/modules/1.2/vmlinuz",
    "lib/modules/1.2/Image",
    "boot/0123456789abcdef/1.2/linux",
    "efi/0123456789abcdef/1.2/linux",
    "run/booted-system/kernel",
    "boot/EFI/Linux/arch-linux.efi",
    "boot/efi/EFI/Linux/0123456789abcdef.efi",
    "efi/EFI/Linux/arch-linux.efi",
};

START_TEST(kernels_in_other_places)
{
    put_kernel("boot/vmlinuz-99", "99");
    put_kernel(places[_i], running);
    expect_kernel(places[_i], running);
    put_uki(places[_i], running);
    expect_kernel(places[_i], running);
}
END_TEST

START_TEST(a_kernel_compressed_as_a_whole)
{
    z_stream z = {
        .next_in = file, .avail_in = SIZE, .next_out = wrapped, .avail_out = sizeof(wrapped)
    };

    put(56, "ARM\x64");
    put(PIECE, "Linux version 6.7 (");
    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    tree_put(tree, "boot/vmlinuz-generic", wrapped, z.total_out);
    expect_kernel("boot/vmlinuz-generic", "6.7");
}
END_TEST

START_TEST(the_kernel_in_a_uki)
{
    uint8_t bytes[1024 + 100];
    size_t size = made_uki(bytes, made_kernel(bytes, "6.1") + 100, 1024);
    struct image image = made_image(file, size);

    ck_assert_int_eq(uki_narrow(&image), 0);
    ck_assert_uint_eq(image.start, 4096);
    ck_assert_uint_eq(image.size, 1024);
    ck_assert_int_eq(kernel_version(version, &image), 0);
    ck_assert_str_eq(version, "6.1");
    ck_assert_int_eq(image_read(&image, 1024, bytes, 1), -EINVAL);
    image_close(&image);
}
END_TEST

static void expect_not_narrowed(size_t size)
{
    struct image image = made_image(file, size);

    ck_assert_int_eq(uki_narrow(&image), 0);
    ck_assert_uint_eq(image.start, 0);
    ck_assert_uint_eq(image.size, size);
    image_close(&image);
}

START_TEST(an_efi_program_without_a_kernel)
{
    uint8_t bytes[1024];
    size_t size = made_uki(bytes, made_kernel(bytes, "6.1"), 1024);

    for (size_t cut = 64; cut < 4096; cut += 8) { /* its table of sections is incomplete, or not */
        struct image image = made_image(file, cut);
        int error = uki_narrow(&image);

        ck_assert_int_eq(error, cut < 0x80 + 24 + 240 + 80 ? 0 : -EINVAL);
        ck_assert(!error || logged("its kernel is not in the file"));
        ck_assert_uint_eq(image.start, 0);
        image_close(&image);
    }
    memcpy(file + 0x80 + 24 + 240 + 40, ".linuxes", 8);
    expect_not_narrowed(size);
    memcpy(file + 0x80, "NE\0", 4);
    expect_not_narrowed(size);
}
END_TEST

START_TEST(an_unreadable_kernel)
{
    char path[256], lines[4096] = "", *found = NULL;

    put_kernel("boot/vmlinuz-6.9", "6.9");
    snprintf(path, sizeof(path), "%s/boot/vmlinuz-6.9", tree);
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(chmod(tree, 0755), 0);
    if (geteuid() == 0 && seteuid(65534) < 0)
        unit_skip("root of a user namespace without another user");
    ck_assert_int_eq(kernel_find(&found, version, tree), -EACCES);
    ck_assert(logged("sudo chmod a+r"));
    log_set_level(LOG_LEVEL_INFO);
    ck_assert_int_eq(kernel_find(&found, version, tree), -EACCES);
    ck_assert_int_gt(pread(STDERR_FILENO, lines, sizeof(lines) - 1, 0), 0);
    ck_assert_ptr_nonnull(strstr(lines, "boot/vmlinuz-6.9: Permission denied\n"));
    ck_assert_int_eq(ftruncate(STDERR_FILENO, 0), 0);
    lseek(STDERR_FILENO, 0, SEEK_SET);
    log_set_level(LOG_LEVEL_WARN);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    put_kernel("boot/vmlinuz-linux", "6.8");
    if (getuid() == 0 && seteuid(65534) < 0)
        unit_skip("root of a user namespace without another user");
    expect_kernel("boot/vmlinuz-linux", "6.8");
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

START_TEST(no_kernel)
{
    char *found = NULL;

    ck_assert_int_eq(kernel_find(&found, version, tree), -ENOENT);
    ck_assert(logged("there is no kernel in"));
    ck_assert_int_eq(kernel_find(&found, version, "/nowhere"), -ENOENT);
    ck_assert(logged("linux-image-VERSION, or since Debian 14 linux-binary-VERSION"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel");
    TCase *tests = tcase_create("kernel"), *host = tcase_create("host");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, bzimage);
    tcase_add_loop_test(tests, bzimage_without_a_version, 0, ARRAY_SIZE(no_versions));
    tcase_add_loop_test(tests, banner_anywhere, 0, ARRAY_SIZE(banner_places));
    tcase_add_test(tests, banner_formats_are_skipped);
    tcase_add_test(tests, no_banner);
    tcase_add_test(tests, no_search_without_end);
    tcase_add_test(tests, banner_in_a_gzip_file);
    tcase_add_test(tests, the_kernel_in_a_uki);
    tcase_add_test(tests, an_efi_program_without_a_kernel);
    suite_add_tcase(suite, tests);

    tcase_add_checked_fixture(host, set_up_host, tear_down);
    tcase_add_test(host, the_running_or_the_newest_kernel);
    tcase_add_test(host, the_version_is_in_the_file);
    tcase_add_loop_test(host, kernels_in_other_places, 0, ARRAY_SIZE(places));
    tcase_add_test(host, a_kernel_compressed_as_a_whole);
    tcase_add_test(host, an_unreadable_kernel);
    tcase_add_test(host, no_kernel);
    suite_add_tcase(suite, host);
    return unit_run(suite);
}
