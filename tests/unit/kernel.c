/* SPDX-License-Identifier: MIT */
#include "vmm/run/kernel.h"

#include <errno.h>
#include <sys/utsname.h>
#include <zlib.h>

#include "tests/unit/firmware.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

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

static void expect_kernel(const char *name)
{
    char wanted[256], *found = NULL;

    snprintf(wanted, sizeof(wanted), "%s/%s", tree, name);
    ck_assert_int_eq(kernel_find(&found, tree), 0);
    ck_assert_str_eq(found, wanted);
    free(found);
}

START_TEST(the_running_or_the_newest_kernel)
{
    struct utsname host;
    char running[128];

    tree_put_text(tree, "vmlinuz-6.9.1", "x");
    tree_put_text(tree, "vmlinuz-6.10.0-2", "x");
    tree_put_text(tree, "vmlinuz-6.10.0-1", "x");
    tree_put_text(tree, "vmlinuz-7.0.old", "x");
    tree_put_text(tree, "vmlinuz-0-rescue-7", "x");
    tree_put_text(tree, "config-8.0", "x");
    tree_put_text(tree, "vmlinuz-9.0/x", "x"); /* a directory */
    expect_kernel("vmlinuz-6.10.0-2");

    tree_put_text(tree, "Image-6.11", "x");
    expect_kernel("Image-6.11");

    ck_assert_int_eq(uname(&host), 0);
    snprintf(running, sizeof(running), "vmlinuz-%s", host.release);
    tree_put_text(tree, running, "x");
    tree_put_text(tree, "vmlinuz-99", "x");
    expect_kernel(running);
}
END_TEST

START_TEST(an_unreadable_kernel)
{
    char path[256], *found = NULL;

    tree_put_text(tree, "vmlinuz-6.9", "x");
    snprintf(path, sizeof(path), "%s/vmlinuz-6.9", tree);
    ck_assert_int_eq(chmod(path, 0), 0);
    ck_assert_int_eq(chmod(tree, 0755), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    ck_assert_int_eq(kernel_find(&found, tree), -EACCES);
    ck_assert(logged("sudo chmod a+r"));
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    tree_put_text(tree, "vmlinuz-6.8", "x");
    if (getuid() != 0)
        expect_kernel("vmlinuz-6.8");
}
END_TEST

START_TEST(no_kernel)
{
    char *found = NULL;

    ck_assert_int_eq(kernel_find(&found, tree), -ENOENT);
    ck_assert(logged("there is no kernel in"));
    ck_assert_int_eq(kernel_find(&found, "/nowhere"), -ENOENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel");
    TCase *tests = tcase_create("kernel");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, bzimage);
    tcase_add_loop_test(tests, bzimage_without_a_version, 0, ARRAY_SIZE(no_versions));
    tcase_add_loop_test(tests, banner_anywhere, 0, ARRAY_SIZE(banner_places));
    tcase_add_test(tests, banner_formats_are_skipped);
    tcase_add_test(tests, no_banner);
    tcase_add_test(tests, banner_in_a_gzip_file);
    tcase_add_test(tests, the_running_or_the_newest_kernel);
    tcase_add_test(tests, an_unreadable_kernel);
    tcase_add_test(tests, no_kernel);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
