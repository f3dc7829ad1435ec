/* SPDX-License-Identifier: MIT */
#include "vmm/core/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/memory.h"
#include "vmm/core/page_map.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define LOW  (4 * MIB) /* the regions' sizes, as of a PC with more than 3 GiB */
#define HIGH (2 * MIB)
#define ALL  (LOW + HIGH)

static const uint8_t ids[2][SNAPSHOT_ID_SIZE] = { "of this one", "of another" };

/* An unlinked file where other programs have theirs, as tmpfs and disks differ. */
static int new_file(void)
{
    FILE *file = tmpfile();
    int fd;

    ck_assert_ptr_nonnull(file);
    fd = dup(fileno(file));
    fclose(file);
    return fd;
}

/* Two regions; of a saved file unless that is -1. */
static struct guest_memory *new_memory(int template)
{
    struct guest_memory *mem = guest_memory_create();
    struct memory_backing backing = { MEMORY_PRIVATE_FILE, template, 0 };

    ck_assert_int_eq(guest_memory_add(mem, 0, LOW, template <0 ? NULL : &backing), 0);
    backing.offset = LOW;
    ck_assert_int_eq(guest_memory_add(mem, 4 * GIB, HIGH, template <0 ? NULL : &backing), 0);
    return mem;
}

static uint8_t *page_at(struct guest_memory *mem, size_t number)
{
    uint64_t at = number * PAGE;

    return guest_ptr(mem, at < LOW ? at : at - LOW + 4 * GIB, PAGE);
}

static void fill(struct guest_memory *mem, size_t first, size_t count, uint8_t byte)
{
    for (size_t i = first; i < first + count; i++)
        memset(page_at(mem, i), byte, PAGE);
}

static int saved(struct guest_memory *mem)
{
    int fd = new_file(), pagemap = page_map_open();

    ck_assert_int_eq(memory_file_write(mem, fd, pagemap, ids[0]), 0);
    ck_assert_int_eq(memory_file_check(fd, ALL, ids[0]), 0);
    close(pagemap);
    return fd;
}

static void check_same(struct guest_memory *mem, int fd)
{
    uint8_t *bytes = malloc(PAGE);

    for (size_t i = 0; i < ALL / PAGE; i++) {
        ck_assert_int_eq(pread(fd, bytes, PAGE, (off_t)(i * PAGE)), (ssize_t)PAGE);
        ck_assert_msg(memcmp(bytes, page_at(mem, i), PAGE) == 0, "page %zu", i);
    }
    free(bytes);
}

static uint64_t allocated(int fd)
{
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

START_TEST(untouched_memory_is_a_hole)
{
    struct guest_memory *mem = new_memory(-1);
    int fd = saved(mem);

    check_same(mem, fd);
    ck_assert_uint_le(allocated(fd), 64 * KIB);
    guest_memory_destroy(mem);
    close(fd);
}
END_TEST

START_TEST(pages_of_zeros_are_holes)
{
    struct guest_memory *mem = new_memory(-1);
    int fd;

    fill(mem, 0, LOW / PAGE, 0); /* written, so they take memory */
    fill(mem, 3, 1, 'x');
    page_at(mem, 5)[PAGE - 1] = 1; /* the last byte counts */
    page_at(mem, LOW / PAGE - 1)[0] = 2;
    page_at(mem, LOW / PAGE)[PAGE / 2] = 3;
    page_at(mem, ALL / PAGE - 1)[PAGE - 1] = 4;
    fd = saved(mem);
    check_same(mem, fd);
    ck_assert_uint_le(allocated(fd), 128 * KIB + 6 * PAGE);
    guest_memory_destroy(mem);
    close(fd);
}
END_TEST

/* A machine that was restored, has written, zeroed, discarded, and is saved again. */
START_TEST(generations)
{
    struct guest_memory *mem = new_memory(-1);
    int fd;

    fill(mem, 10, 300, 'a');
    fill(mem, LOW / PAGE + 10, 100, 'b');
    fd = saved(mem);
    for (unsigned generation = 0; generation < 5; generation++) {
        int template = fd;
        size_t at = 20 + 40 * generation;

        guest_memory_destroy(mem);
        mem = new_memory(template);
        check_same(mem, template);
        fill(mem, at, 3, (uint8_t)('A' + generation));
        fill(mem, at + 5, 3, 0);
        fill(mem, 700 + generation, 1, 'n'); /* was a hole */
        ck_assert_int_eq(guest_memory_discard(mem, (at + 10) * PAGE, 4 * PAGE), 0);
        ck_assert_int_eq(guest_memory_discard(mem, (at + 20) * PAGE, 4 * PAGE), 0);
        fill(mem, at + 21, 1, 'r'); /* used again */
        fd = saved(mem);
        check_same(mem, fd);
        ck_assert_uint_eq(page_at(mem, at + 10)[0], 0);
        ck_assert_uint_lt(allocated(fd), 500 * PAGE);
        close(template);
    }
    guest_memory_destroy(mem);
    close(fd);
}
END_TEST

START_TEST(rewound_memory_is_the_file)
{
    struct guest_memory *mem = new_memory(-1);
    int pagemap = page_map_open(), template;

    ck_assert_int_eq(memory_file_rewind(mem, pagemap), -ENOTSUP);
    fill(mem, 10, 300, 'a');
    template = saved(mem);
    guest_memory_destroy(mem);
    mem = new_memory(template);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < ALL / PAGE; i += 2) /* more runs than are found at a time */
            fill(mem, i, 1, (uint8_t)('A' + round));
        fill(mem, LOW / PAGE - 1, 3, 0);
        ck_assert_int_eq(memory_file_rewind(mem, pagemap), 0);
        check_same(mem, template);
    }
    guest_memory_clear(mem);
    ck_assert_int_eq(memory_file_rewind(mem, pagemap), -ENOTSUP);
    guest_memory_destroy(mem);
    close(template);
    close(pagemap);
}
END_TEST

/* A reset after a restore. */
START_TEST(nothing_of_a_cleared_machine_is_left)
{
    struct guest_memory *mem = new_memory(-1);
    int template, fd;

    fill(mem, 0, ALL / PAGE, 's');
    template = saved(mem);
    guest_memory_destroy(mem);
    mem = new_memory(template);
    fill(mem, 4, 4, 't');
    guest_memory_clear(mem);
    fill(mem, 9, 1, 'u');
    fd = saved(mem);
    check_same(mem, fd);
    ck_assert_uint_le(allocated(fd), 64 * KIB + PAGE);
    guest_memory_destroy(mem);
    close(template);
    close(fd);
}
END_TEST

START_TEST(the_trailer_tells_whose_it_is)
{
    struct guest_memory *mem = new_memory(-1);
    int fd = saved(mem), ends[2];
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(memory_file_check(fd, ALL, ids[1]), -ESTALE);
    ck_assert_int_eq(memory_file_check(fd, ALL - PAGE, ids[0]), -EINVAL);
    ck_assert_int_eq(memory_file_check(fd, ALL + PAGE, ids[0]), -EINVAL);
    ck_assert_int_eq(memory_file_check(fd, 0, ids[0]), -EINVAL);
    ck_assert_int_eq(memory_file_check(fd, (uint64_t)-PAGE, ids[0]), -EINVAL);
    for (off_t size = st.st_size - 1; size > 0; size = size > 9999 ? size - 9999 : 0) {
        ck_assert_int_eq(ftruncate(fd, size), 0);
        ck_assert_int_eq(memory_file_check(fd, ALL, ids[0]), -EINVAL);
    }
    ck_assert_int_eq(ftruncate(fd, st.st_size), 0); /* all zeros */
    ck_assert_int_eq(memory_file_check(fd, ALL, ids[0]), -EINVAL);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(memory_file_check(ends[0], ALL, ids[0]), -EINVAL);
    ck_assert_int_eq(memory_file_check(-1, ALL, ids[0]), -EBADF);
    guest_memory_destroy(mem);
    close(fd);
}
END_TEST

START_TEST(a_full_disk_is_an_error)
{
    struct guest_memory *mem = new_memory(-1);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), pagemap = page_map_open();

    ck_assert_int_eq(memory_file_write(mem, full, pagemap, ids[0]), -ENOSPC);
    fill(mem, 7, 1, 'x');
    ck_assert_int_eq(memory_file_write(mem, full, pagemap, ids[0]), -ENOSPC);
    ck_assert_int_eq(memory_file_write(mem, new_file(), -1, ids[0]), -EBADF);
    guest_memory_destroy(mem);
}
END_TEST

/* Another process may write to it at any time. */
int main(void)
{
    Suite *suite = suite_create("memory_file");
    TCase *tcase = tcase_create("memory_file");

    tcase_add_test(tcase, untouched_memory_is_a_hole);
    tcase_add_test(tcase, pages_of_zeros_are_holes);
    tcase_add_test(tcase, generations);
    tcase_add_test(tcase, rewound_memory_is_the_file);
    tcase_add_test(tcase, nothing_of_a_cleared_machine_is_left);
    tcase_add_test(tcase, the_trailer_tells_whose_it_is);
    tcase_add_test(tcase, a_full_disk_is_an_error);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
