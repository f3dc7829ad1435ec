/* SPDX-License-Identifier: MIT */
#include "firmware/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/firmware.h"
#include "tests/unit/lease.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

START_TEST(opens_a_regular_file)
{
    char path[] = "/tmp/minivmm-image-XXXXXX";
    int fd = mkstemp(path);
    struct image image;
    char got[3];

    ck_assert_int_eq(write(fd, letters, 26), 26);
    ck_assert_int_eq(image_open(&image, path), 0);
    unlink(path);
    ck_assert_uint_eq(image.size, 26);
    ck_assert_int_eq(image_read(&image, 23, got, 3), 0);
    ck_assert_mem_eq(got, "xyz", 3);
    image_close(&image);
    image_close(&image); /* closing twice is allowed */
    close(fd);
}
END_TEST

START_TEST(waits_for_a_lease)
{
    char path[] = "/tmp/minivmm-image-XXXXXX";
    int fd = mkstemp(path);
    struct image image;
    pid_t holder;

    ck_assert_int_eq(write(fd, letters, 26), 26);
    close(fd); /* the holder must be the only one that has the file open */
    holder = lease_take(path);
    ck_assert_int_eq(image_open(&image, path), 0);
    ck_assert_int_eq(waitpid(holder, NULL, 0), holder);
    unlink(path);
    image_close(&image);
}
END_TEST

START_TEST(duplicates_an_open_descriptor)
{
    struct image made = made_image(letters, 26), image;
    char got[3];

    ck_assert_int_eq(image_open_fd(&image, made.fd, "memory"), 0);
    image_close(&made); /* `image` has a duplicate */
    ck_assert_int_eq(image_read(&image, 0, got, 3), 0);
    ck_assert_mem_eq(got, "abc", 3);
    image_close(&image);

    log_capture();
    ck_assert_int_eq(image_open_fd(&image, 1000000, "memory"), -EBADF);
    ck_assert(logged("open memory"));
}
END_TEST

/* The test makes each of these in a temporary directory. */
static const struct {
    const char *name, *words;
    int error;
} unsuitable[] = {
    { ".", "is a directory", -EINVAL },
    { "fifo", "is a pipe", -EINVAL }, /* it is not even opened */
    { "empty", "is empty", -EINVAL },
    { "device", "is a device", -EINVAL },
    { "missing", "No such file", -ENOENT },
    { "loop", "open", -ELOOP },
};

START_TEST(directory_fifo_device_or_empty)
{
    char directory[] = "/tmp/minivmm-image-XXXXXX";
    const char *name = unsuitable[_i].name;
    struct image image = { .fd = -2 };
    int watch;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
    ck_assert_int_eq(mkfifo("fifo", 0600), 0);
    ck_assert_int_eq(symlink("/dev/zero", "device"), 0);
    ck_assert_int_eq(symlink("loop", "loop"), 0);
    close(open("empty", O_CREAT | O_WRONLY, 0600));

    log_capture();
    watch = tree_watch_opens("fifo");
    ck_assert_int_eq(image_open(&image, name), unsuitable[_i].error);
    ck_assert(!tree_was_opened(watch));
    ck_assert(logged(unsuitable[_i].words));
    ck_assert_int_eq(image.fd, -2); /* untouched on failure */

    unlink("fifo"), unlink("device"), unlink("loop"), unlink("empty");
    rmdir(directory);
}
END_TEST

static const struct {
    uint64_t offset, len;
    int error;
} spans[] = {
    { 0, 26, 0 },
    { 26, 0, 0 },
    { 25, 1, 0 },
    { 25, 2, -EINVAL },
    { 26, 1, -EINVAL },
    { 27, 0, -EINVAL },
    { 0, 27, -EINVAL },
    { UINT64_MAX, 1, -EINVAL },
    { UINT64_MAX, 2, -EINVAL },
    { UINT64_MAX - 1, 27, -EINVAL },
    { 1, UINT64_MAX, -EINVAL },
    { 2, SIZE_MAX - 1, -EINVAL },
};

START_TEST(offsets_past_the_end)
{
    struct image image = made_image(letters, 26);
    char got[26] = "";

    log_capture();
    ck_assert_int_eq(image_read(&image, spans[_i].offset, got, spans[_i].len), spans[_i].error);
    if (spans[_i].error)
        ck_assert(logged("made is truncated"));
    else
        ck_assert_mem_eq(got, letters + spans[_i].offset, spans[_i].len);
}
END_TEST

START_TEST(truncated_while_open)
{
    struct image image = made_image(letters, 26);
    char got[26];

    ck_assert_int_eq(ftruncate(image.fd, 13), 0);
    ck_assert_int_eq(image_read(&image, 0, got, 13), 0);
    log_capture();
    ck_assert_int_eq(image_read(&image, 0, got, 26), -EINVAL);
    ck_assert(logged("truncated"));
}
END_TEST

START_TEST(loads_into_guest_ram_only)
{
    struct guest_memory *mem = made_memory(MIB);
    struct image image = made_image(letters, 26);
    const gpa_t outside[] = { MIB - 25, MIB, UINT64_MAX, UINT64_MAX - 25 };

    ck_assert_int_eq(image_load(&image, 0, 26, mem, MIB - 26), 0);
    ck_assert_mem_eq(guest_ptr(mem, MIB - 26, 26), letters, 26);
    ck_assert_int_eq(image_load(&image, 20, 6, mem, 0), 0);
    ck_assert_mem_eq(guest_ptr(mem, 0, 6), "uvwxyz", 6);

    log_capture();
    for (unsigned i = 0; i < ARRAY_SIZE(outside); i++) {
        ck_assert_int_eq(image_load(&image, 0, 26, mem, outside[i]), -EFAULT);
        ck_assert(logged("no guest memory"));
    }
    guest_memory_destroy(mem);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image");
    TCase *tests = tcase_create("image");

    tcase_add_test(tests, opens_a_regular_file);
    tcase_add_test(tests, waits_for_a_lease);
    tcase_add_test(tests, duplicates_an_open_descriptor);
    tcase_add_loop_test(tests, directory_fifo_device_or_empty, 0, ARRAY_SIZE(unsuitable));
    tcase_add_loop_test(tests, offsets_past_the_end, 0, ARRAY_SIZE(spans));
    tcase_add_test(tests, truncated_while_open);
    tcase_add_test(tests, loads_into_guest_ram_only);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
