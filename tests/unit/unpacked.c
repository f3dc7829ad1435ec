/* SPDX-License-Identifier: MIT */
#include "vmm/run/unpacked.h"

#include <dirent.h>
#include <fcntl.h>
#include <zlib.h>

#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define SETUP_SIZE 1024
#define CONTENT    "what the kernel is, unpacked"

static char tree[64], cache[96], kernel[96], kernels[128];
static uint8_t file[4096];

/* A bzImage with this content, compressed by gzip. */
static void make_kernel(const char *content, uint32_t said_size)
{
    z_stream stream = { .next_in = (uint8_t *)content,
                        .avail_in = (uInt)strlen(content),
                        .next_out = file + SETUP_SIZE,
                        .avail_out = sizeof(file) - SETUP_SIZE };
    const uint16_t version = 0x20f;
    const uint32_t offset = 0;
    uint32_t size;
    int fd;

    memset(file, 0, sizeof(file));
    ck_assert_int_eq(deflateInit2(&stream, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size = (uint32_t)stream.total_out;
    deflateEnd(&stream);
    memcpy(file + SETUP_SIZE + size - 4, &said_size, 4);
    file[0x1f1] = SETUP_SIZE / 512 - 1;
    memcpy(file + 0x202, "HdrS", 4);
    memcpy(file + 0x206, &version, 2);
    memcpy(file + 0x248, &offset, 4);
    memcpy(file + 0x24c, &size, 4);
    unlink(kernel);
    fd = open(kernel, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_eq(write(fd, file, SETUP_SIZE + size), SETUP_SIZE + (ssize_t)size);
    close(fd);
}

static void set_up(void)
{
    tree_make(tree);
    snprintf(cache, sizeof(cache), "%s/cache", tree);
    snprintf(kernel, sizeof(kernel), "%s/bzImage", tree);
    snprintf(kernels, sizeof(kernels), "%s/minivmm/kernels", cache);
    setenv("XDG_CACHE_HOME", cache, 1);
    make_kernel(CONTENT, strlen(CONTENT));
}

static void tear_down(void)
{
    tree_remove(tree);
}

static ino_t opened(const char *content)
{
    char bytes[100] = "";
    struct stat st;
    int fd = unpacked_open(kernel);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(read(fd, bytes, sizeof(bytes) - 1), (ssize_t)strlen(content));
    ck_assert_str_eq(bytes, content);
    ck_assert_int_eq(fstat(fd, &st), 0);
    close(fd);
    return st.st_ino;
}

static unsigned kept(char ret[160 + 256])
{
    DIR *directory = opendir(kernels);
    const struct dirent *entry;
    unsigned count = 0;

    while (directory && (entry = readdir(directory)))
        if (entry->d_name[0] != '.') {
            count++;
            snprintf(ret, 160 + 256, "%s/%s", kernels, entry->d_name);
        }
    if (directory)
        closedir(directory);
    return count;
}

START_TEST(unpacked_once)
{
    char path[160 + 256];
    ino_t first = opened(CONTENT);

    ck_assert_uint_eq(first, opened(CONTENT));
    ck_assert_uint_eq(kept(path), 1);
    make_kernel("another", 7);
    opened("another");
    ck_assert_uint_eq(kept(path), 2);
}
END_TEST

START_TEST(four_are_kept)
{
    char path[160 + 256];

    for (unsigned i = 0; i < 7; i++) {
        make_kernel(CONTENT, strlen(CONTENT));
        opened(CONTENT);
    }
    ck_assert_uint_eq(kept(path), 4);
}
END_TEST

/* A damaged kernel, or a file that is none, leaves nothing behind. */
START_TEST(nothing_to_keep)
{
    static const uint32_t sizes[] = { 0, sizeof(CONTENT) - 2, sizeof(CONTENT), UINT32_MAX };
    char path[160 + 256];

    make_kernel(CONTENT, sizes[_i]);
    ck_assert_int_eq(unpacked_open(kernel), -1);
    ck_assert_uint_eq(kept(path), 0);
    ck_assert_int_eq(truncate(kernel, 700), 0);
    ck_assert_int_eq(unpacked_open(kernel), -1);
    ck_assert_int_eq(unpacked_open("/nowhere"), -1);
}
END_TEST

START_TEST(others_can_write_to_the_cache)
{
    opened(CONTENT);
    ck_assert_int_eq(chmod(kernels, 0770), 0);
    ck_assert_int_eq(unpacked_open(kernel), -1);
    ck_assert_int_eq(chmod(kernels, 0700), 0);
    opened(CONTENT);
    setenv("XDG_CACHE_HOME", "relative", 1);
    unsetenv("HOME");
    ck_assert_int_eq(unpacked_open(kernel), -1);
}
END_TEST

/* What was left in the file's place is replaced. */
START_TEST(another_file_in_its_place)
{
    char path[160 + 256];

    opened(CONTENT);
    ck_assert_uint_eq(kept(path), 1);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/etc/hostname", path), 0);
    opened(CONTENT);
    ck_assert_int_eq(chmod(path, 0600), 0);
    ck_assert_int_eq(truncate(path, 3), 0);
    opened(CONTENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unpacked");
    TCase *tests = tcase_create("unpacked");
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);

    if (fd < 0)
        return unit_skip_all("the file system of /tmp has no files without a name");
    close(fd);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, unpacked_once);
    tcase_add_test(tests, four_are_kept);
    tcase_add_loop_test(tests, nothing_to_keep, 0, 4);
    tcase_add_test(tests, others_can_write_to_the_cache);
    tcase_add_test(tests, another_file_in_its_place);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
