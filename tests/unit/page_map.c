/* SPDX-License-Identifier: MIT */
#include "vmm/core/page_map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define PAGES    1024
#define PAGE     ((size_t)sysconf(_SC_PAGESIZE))
#define ENTRY(p) ((off_t)((uintptr_t)(p) / PAGE * sizeof(uint64_t)))

enum way { SCAN, READ };

/*
 * /proc/self/pagemap; or, as a kernel without PAGEMAP_SCAN sees it, a file with the same entries
 * for this range.
 */
static int open_map(enum way way, const void *start, size_t size)
{
    size_t bytes = size / PAGE * sizeof(uint64_t);
    int fd = page_map_open(), copy = memfd_create("pagemap", MFD_CLOEXEC);
    uint64_t *entries = malloc(bytes);

    ck_assert(fd >= 0 && entries);
    if (way == READ) {
        ck_assert_int_eq(pread(fd, entries, bytes, ENTRY(start)), (ssize_t)bytes);
        ck_assert_int_eq(pwrite(copy, entries, bytes, ENTRY(start)), (ssize_t)bytes);
        ck_assert_int_eq(dup2(copy, fd), fd);
    }
    free(entries);
    close(copy);
    return fd;
}

static uint8_t *map_anonymous(void)
{
    uint8_t *map =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(map, MAP_FAILED);
    madvise(map, PAGES * PAGE, MADV_NOHUGEPAGE);
    return map;
}

/* A private mapping of a file whose pages are in memory. */
static uint8_t *map_file(void)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    uint8_t *map;

    for (unsigned i = 0; i < PAGES; i++)
        ck_assert_int_eq(pwrite(fd, "file", 4, (off_t)(i * PAGE)), 4);
    map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    close(fd);
    return map;
}

static unsigned read_all(const uint8_t *map)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < PAGES; i++)
        sum += *(const volatile uint8_t *)(map + i * PAGE);
    return sum;
}

/* The pages found in the whole map must be those that are `wanted`. */
static void check(enum way way, const uint8_t *map, bool (*wanted)(unsigned page))
{
    int fd = open_map(way, map, PAGES * PAGE);
    struct page_run run = { 0, 0 };
    struct page_map pages;
    uintptr_t last = (uintptr_t)map;
    bool found[PAGES] = { false };
    int more;

    page_map_begin(&pages, fd, map, PAGES * PAGE);
    while ((more = page_map_next(&pages, &run)) > 0) {
        ck_assert_uint_ge(run.start, last);
        ck_assert_uint_gt(run.end, run.start);
        ck_assert_uint_le(run.end, (uintptr_t)map + PAGES * PAGE);
        for (uintptr_t at = run.start; at < run.end; at += PAGE)
            found[(at - (uintptr_t)map) / PAGE] = true;
        last = run.end;
    }
    ck_assert_int_eq(more, 0);
    for (unsigned i = 0; i < PAGES; i++)
        ck_assert_msg(found[i] == wanted(i), "page %u", i);
    close(fd);
    munmap((void *)map, PAGES * PAGE);
}

static bool none(unsigned page)
{
    return false;
}

static bool all(unsigned page)
{
    return true;
}

/* More runs than are found at once. */
static bool every_other(unsigned page)
{
    return page % 2;
}

static bool ends(unsigned page)
{
    return page == 0 || page == PAGES - 1;
}

static bool (*const patterns[])(unsigned page) = { none, all, every_other, ends };

static void write_pattern(uint8_t *map, bool (*wanted)(unsigned page))
{
    for (unsigned i = 0; i < PAGES; i++)
        if (wanted(i))
            map[i * PAGE + 7] = 0; /* what is written does not matter */
}

START_TEST(written_pages_of_anonymous_memory)
{
    bool (*wanted)(unsigned page) = patterns[_i / 2];
    uint8_t *map = map_anonymous();

    write_pattern(map, wanted);
    check(_i % 2 ? READ : SCAN, map, wanted);
}
END_TEST

START_TEST(written_pages_of_a_private_file)
{
    bool (*wanted)(unsigned page) = patterns[_i / 2];
    uint8_t *map = map_file();

    ck_assert_uint_gt(read_all(map), 0); /* the file's pages are mapped, too */
    write_pattern(map, wanted);
    check(_i % 2 ? READ : SCAN, map, wanted);
}
END_TEST

/* A page that was only read is the kernel's page of zeros. The old interface does not tell it. */
START_TEST(pages_of_zeros_are_not_the_processs_own)
{
    uint8_t *map = map_anonymous();

    ck_assert_uint_eq(read_all(map), 0);
    write_pattern(map, ends);
    check(SCAN, map, ends);
}
END_TEST

START_TEST(anonymous_memory_in_the_place_of_a_files)
{
    uint8_t *map = map_file();

    write_pattern(map, all);
    ck_assert_ptr_ne(mmap(map + PAGE, (PAGES - 2) * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                     MAP_FAILED);
    check(_i ? READ : SCAN, map, ends);
}
END_TEST

START_TEST(a_search_of_nothing_finds_nothing)
{
    uint8_t *map = map_anonymous();
    int fd = page_map_open();
    struct page_map pages;
    struct page_run run;

    write_pattern(map, all);
    page_map_begin(&pages, fd, map, 0);
    ck_assert_int_eq(page_map_next(&pages, &run), 0);
    ck_assert_int_eq(page_map_next(&pages, &run), 0);
}
END_TEST

/* Neither interface: an error, and no endless search. */
START_TEST(a_file_that_ends_too_early_is_an_error)
{
    uint8_t *map = map_anonymous();
    struct page_map pages;
    struct page_run run;

    page_map_begin(&pages, memfd_create("empty", MFD_CLOEXEC), map, PAGES * PAGE);
    ck_assert_int_lt(page_map_next(&pages, &run), 0);
    page_map_begin(&pages, -1, map, PAGES * PAGE);
    ck_assert_int_eq(page_map_next(&pages, &run), -EBADF);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("page_map");
    TCase *tcase = tcase_create("page_map");

    tcase_add_loop_test(tcase, written_pages_of_anonymous_memory, 0, 2 * ARRAY_SIZE(patterns));
    tcase_add_loop_test(tcase, written_pages_of_a_private_file, 0, 2 * ARRAY_SIZE(patterns));
    tcase_add_test(tcase, pages_of_zeros_are_not_the_processs_own);
    tcase_add_loop_test(tcase, anonymous_memory_in_the_place_of_a_files, 0, 2);
    tcase_add_test(tcase, a_search_of_nothing_finds_nothing);
    tcase_add_test(tcase, a_file_that_ends_too_early_is_an_error);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
