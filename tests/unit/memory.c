/* SPDX-License-Identifier: MIT */
#include "vmm/core/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/core/base.h"

/* Two regions with a gap, as on a PC with more than 3 GiB. */
static struct guest_memory *two_regions(void)
{
    struct guest_memory *mem = guest_memory_create();

    ck_assert_int_eq(guest_memory_add(mem, 0, MIB, NULL), 0);
    ck_assert_int_eq(guest_memory_add(mem, 4 * GIB, 2 * MIB, NULL), 0);
    return mem;
}

#define PAGE       ((size_t)sysconf(_SC_PAGESIZE))
#define FILE_PAGES 8
#define FILE_BYTE  0x5a

/* An unlinked file of FILE_PAGES pages of FILE_BYTE. */
static int template_file(void)
{
    size_t size = FILE_PAGES * PAGE;
    char *bytes = malloc(size);
    FILE *file = tmpfile();
    int fd;

    ck_assert(bytes && file);
    memset(bytes, FILE_BYTE, size);
    fd = dup(fileno(file));
    ck_assert_int_eq(pwrite(fd, bytes, size, 0), (ssize_t)size);
    fclose(file);
    free(bytes);
    return fd;
}

static bool all_are(const char *bytes, size_t len, char value)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static void assert_template_unchanged(int fd)
{
    size_t size = FILE_PAGES * PAGE;
    const char *file = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

    ck_assert_ptr_ne(file, MAP_FAILED);
    ck_assert(all_are(file, size, FILE_BYTE));
    munmap((void *)file, size);
}

/* FILE_PAGES of RAM at 1 GiB with this backing. *ret_fd is a private file's descriptor. */
static struct guest_memory *backed_by(enum memory_kind kind, int *ret_fd)
{
    struct guest_memory *mem = guest_memory_create();
    struct memory_backing backing = { .kind = kind, .fd = -1 };

    if (kind == MEMORY_PRIVATE_FILE)
        *ret_fd = backing.fd = template_file();
    ck_assert_int_eq(guest_memory_add(mem, GIB, FILE_PAGES * PAGE, &backing), 0);
    return mem;
}

START_TEST(addresses_inside_ram)
{
    struct guest_memory *mem = two_regions();
    const struct {
        gpa_t gpa;
        size_t len;
    } good[] = { { 0, 1 }, { 0, MIB }, { MIB - 1, 1 }, { MIB, 0 }, { 4 * GIB, 2 * MIB } };

    for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
        ck_assert_ptr_nonnull(guest_ptr(mem, good[i].gpa, good[i].len));
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(addresses_outside_ram_are_refused)
{
    struct guest_memory *mem = two_regions();
    const struct {
        gpa_t gpa;
        size_t len;
    } bad[] = {
        { MIB, 1 },         { MIB - 1, 2 },           { 3 * GIB, 4096 },
        { 4 * GIB - 1, 2 }, { 4 * GIB, 2 * MIB + 1 }, { 5 * GIB, 1 },
        { UINT64_MAX, 1 },  { UINT64_MAX, 2 },        { 0, SIZE_MAX },
        { 1, SIZE_MAX },    { 4 * GIB, SIZE_MAX },    { UINT64_MAX - 4095, 8192 },
    };
    char byte = 1;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_ptr_null(guest_ptr(mem, bad[i].gpa, bad[i].len));
        ck_assert_int_eq(guest_read(mem, bad[i].gpa, &byte, bad[i].len), -EFAULT);
        ck_assert_int_eq(guest_write(mem, bad[i].gpa, &byte, bad[i].len), -EFAULT);
    }
    ck_assert_int_eq(byte, 1);
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(a_write_is_read_back)
{
    struct guest_memory *mem = two_regions();
    char back[6] = "";

    ck_assert_int_eq(guest_write(mem, 4 * GIB + 100, "hello", 6), 0);
    ck_assert_int_eq(guest_read(mem, 4 * GIB + 100, back, 6), 0);
    ck_assert_str_eq(back, "hello");
    ck_assert_str_eq(guest_ptr(mem, 4 * GIB + 100, 6), "hello");
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(clear_zeroes_every_byte)
{
    struct guest_memory *mem = two_regions();
    const char *host = guest_ptr(mem, 0, MIB);
    size_t left = 0;

    memset(guest_ptr(mem, 0, MIB), 0xaa, MIB);
    guest_memory_clear(mem);
    for (size_t i = 0; i < MIB; i++)
        left += host[i] != 0;
    ck_assert_uint_eq(left, 0);
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(clear_zeroes_a_region_of_each_backing)
{
    size_t size = FILE_PAGES * PAGE;
    int fd = -1;
    struct guest_memory *mem = backed_by((enum memory_kind)_i, &fd);
    char *host = guest_ptr(mem, GIB, size);

    memset(host, 1, size / 2);
    for (unsigned i = 0; i < 2; i++) {
        guest_memory_clear(mem);
        ck_assert_ptr_eq(guest_ptr(mem, GIB, size), host);
        ck_assert(all_are(host, size, 0));
        memset(host, 2, size);
    }
    if (fd >= 0) {
        assert_template_unchanged(fd);
        ck_assert_int_eq(guest_memory_region(mem, 0)->backing.kind, MEMORY_ANONYMOUS);
        close(fd);
    }
    guest_memory_destroy(mem);
}
END_TEST

/* Are the pages of [host, host + len) allocated? Fails unless all or none are. */
static bool has_pages(char *host, size_t len)
{
    unsigned char present[FILE_PAGES] = { 0 };

    ck_assert_int_eq(mincore(host, len, present), 0);
    for (size_t i = 1; i < len / PAGE; i++)
        ck_assert_uint_eq(present[i] & 1, present[0] & 1);
    return present[0] & 1;
}

START_TEST(discard_frees_only_the_pages_of_the_range_for_each_backing)
{
    size_t size = FILE_PAGES * PAGE;
    int fd = -1;
    struct guest_memory *mem = backed_by((enum memory_kind)_i, &fd);
    char *host = guest_ptr(mem, GIB, size);

    memset(host, 1, size);
    ck_assert_int_eq(guest_memory_discard(mem, GIB + 2 * PAGE, 3 * PAGE), 0);
    ck_assert(!has_pages(host + 2 * PAGE, 3 * PAGE));
    ck_assert(all_are(host, 2 * PAGE, 1));
    ck_assert(all_are(host + 2 * PAGE, 3 * PAGE, 0));
    ck_assert(all_are(host + 5 * PAGE, size - 5 * PAGE, 1));

    /* Once more: the first discard may have replaced the mapping. */
    memset(host, 2, size);
    ck_assert(has_pages(host, size));
    ck_assert_int_eq(guest_memory_discard(mem, GIB, size), 0);
    ck_assert(!has_pages(host, size));
    ck_assert(all_are(host, size, 0));
    if (fd >= 0) {
        assert_template_unchanged(fd);
        close(fd);
    }
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(discard_refuses_partial_pages_and_several_regions)
{
    struct guest_memory *mem = guest_memory_create();
    const struct {
        gpa_t gpa;
        uint64_t len;
        int error;
    } bad[] = {
        { 1, PAGE, -EINVAL },
        { 0, PAGE - 1, -EINVAL },
        { UINT64_MAX, PAGE, -EINVAL },
        { 2 * MIB, PAGE, -EFAULT },        /* after the end of RAM */
        { MIB - PAGE, 2 * PAGE, -EFAULT }, /* across two adjacent regions */
        { 0, 2 * MIB, -EFAULT },
        { PAGE, -(uint64_t)PAGE, -EFAULT }, /* the sum wraps */
        { -(uint64_t)PAGE, 2 * PAGE, -EFAULT },
    };

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(guest_memory_add(mem, i * MIB, MIB, NULL), 0);
        memset(guest_ptr(mem, i * MIB, MIB), 1, MIB);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(guest_memory_discard(mem, bad[i].gpa, bad[i].len), bad[i].error);
    ck_assert_int_eq(guest_memory_discard(mem, 0, 0), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert(all_are(guest_ptr(mem, i * MIB, MIB), MIB, 1));
    guest_memory_destroy(mem);
}
END_TEST

static unsigned count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned count = 0;
    int c;

    ck_assert_ptr_nonnull(maps);
    while ((c = getc(maps)) != EOF)
        count += c == '\n';
    fclose(maps);
    return count;
}

/* The range begins and ends within a page; the second time it is forgotten already. */
START_TEST(forget_frees_whole_pages_without_a_mapping_for_each_backing)
{
    size_t size = FILE_PAGES * PAGE;
    int fd = -1;
    struct guest_memory *mem = backed_by((enum memory_kind)_i, &fd);
    char *host = guest_ptr(mem, GIB, size);
    unsigned mappings = count_mappings();

    for (char round = 1; round <= 2; round++) {
        memset(host, round, size);
        ck_assert(has_pages(host, size));
        guest_memory_forget(mem, host + 2 * PAGE - 1, 3 * PAGE + 2);
        ck_assert_uint_eq(count_mappings(), mappings);
        ck_assert(all_are(host, 2 * PAGE, round));
        ck_assert(all_are(host + 5 * PAGE, size - 5 * PAGE, round));
        ck_assert(all_are(host + 2 * PAGE, 3 * PAGE, fd < 0 ? 0 : FILE_BYTE));
        guest_memory_forget(mem, host + 2 * PAGE, 3 * PAGE);
    }
    if (fd < 0)
        ck_assert(!has_pages(host + 2 * PAGE, 3 * PAGE));
    else
        assert_template_unchanged(fd);
    close(fd);
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(forget_leaves_what_is_no_whole_page)
{
    struct guest_memory *mem = backed_by(MEMORY_ANONYMOUS, NULL);
    size_t size = FILE_PAGES * PAGE;
    char *host = guest_ptr(mem, GIB, size);
    const struct {
        size_t at, len;
    } parts[] = { { 0, 0 },        { 0, PAGE - 1 }, { 1, PAGE }, { 1, 2 * PAGE - 2 },
                  { PAGE - 1, 2 }, { 1, PAGE - 1 }, { size, 0 }, { size - 1, 1 } };

    memset(host, 1, size);
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        guest_memory_forget(mem, host + parts[i].at, parts[i].len);
    ck_assert(all_are(host, size, 1));
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(the_guest_reads_a_private_file_and_never_writes_it)
{
    struct guest_memory *mem = guest_memory_create();
    int fd = template_file();
    struct memory_backing backing = { MEMORY_PRIVATE_FILE, fd, PAGE };
    char *host;

    ck_assert_int_eq(pwrite(fd, "first", 5, (off_t)PAGE), 5);
    ck_assert_int_eq(guest_memory_add(mem, 0, (FILE_PAGES - 1) * PAGE, &backing), 0);
    host = guest_ptr(mem, 0, 2 * PAGE);
    ck_assert_uint_eq((uintptr_t)host % (2 * MIB), 0);
    ck_assert_mem_eq(host, "first", 5);
    ck_assert(all_are(host + PAGE, PAGE, FILE_BYTE));

    memset(host, FILE_BYTE, 5);
    ck_assert_int_eq(pwrite(fd, host, 5, (off_t)PAGE), 5);
    ck_assert_int_eq(guest_write(mem, 0, "other", 5), 0);
    ck_assert_int_eq(guest_write(mem, 3 * PAGE, "other", 5), 0);
    guest_memory_destroy(mem);
    assert_template_unchanged(fd);
    close(fd);
}
END_TEST

START_TEST(an_unsuitable_file_is_refused)
{
    struct guest_memory *mem = guest_memory_create();
    int fd = template_file(), huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
    size_t size = FILE_PAGES * PAGE;
    const struct {
        struct memory_backing backing;
        int error;
    } bad[] = {
        { { MEMORY_PRIVATE_FILE, fd, PAGE }, -EINVAL },       /* one page too short */
        { { MEMORY_PRIVATE_FILE, fd, 2 * size }, -EINVAL },   /* begins after the end */
        { { MEMORY_PRIVATE_FILE, fd, UINT64_MAX }, -EINVAL }, /* a sum would wrap */
        { { MEMORY_PRIVATE_FILE, -1, 0 }, -EBADF },
    };
    struct memory_backing unaligned = { MEMORY_PRIVATE_FILE, fd, 1 };
    struct memory_backing hugetlb = { MEMORY_PRIVATE_FILE, huge, 0 };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        ck_assert_int_eq(guest_memory_add(mem, 0, size, &bad[i].backing), bad[i].error);
    ck_assert_int_eq(guest_memory_add(mem, 0, PAGE, &unaligned), -EINVAL);
    if (huge >= 0 && ftruncate(huge, GIB) == 0) /* the kernel has huge pages */
        ck_assert_int_eq(guest_memory_add(mem, 0, GIB, &hugetlb), -EINVAL);
    ck_assert_ptr_null(guest_memory_region(mem, 0));

    guest_memory_destroy(mem);
    close(fd);
    close(huge);
}
END_TEST

START_TEST(more_memory_than_the_host_has_is_refused)
{
    struct guest_memory *mem = guest_memory_create();

    ck_assert_int_eq(guest_memory_add(mem, 0, UINT64_MAX - 4095, NULL), -ENOMEM);
    ck_assert_int_eq(guest_memory_add(mem, 0, 1ull << 60, NULL), -ENOMEM);
    for (unsigned i = 0; i < GUEST_MEMORY_REGIONS; i++)
        ck_assert_int_eq(guest_memory_add(mem, i * GIB, 4096, NULL), 0);
    ck_assert_int_eq(guest_memory_add(mem, 64 * GIB, 4096, NULL), -ENOSPC);
    guest_memory_destroy(mem);
}
END_TEST

/* "dd" of VmFlags: left out of core files. */
START_TEST(ram_is_not_dumped)
{
    struct guest_memory *mem = guest_memory_create();
    char line[512], start[32];
    bool found = false, dumped = true;
    FILE *maps;

    ck_assert_int_eq(guest_memory_add(mem, 0, 8 * MIB, NULL), 0);
    if (_i)
        guest_memory_clear(mem);
    snprintf(start, sizeof(start), "%lx-", (unsigned long)guest_ptr(mem, 0, 1));
    maps = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(maps);
    while (dumped && fgets(line, sizeof(line), maps)) {
        found |= !strncmp(line, start, strlen(start));
        if (found && !strncmp(line, "VmFlags:", 8))
            dumped = !strstr(line, " dd");
    }
    fclose(maps);
    if (!found)
        unit_skip("no /proc/self/smaps of this process");
    ck_assert(!dumped);
    guest_memory_destroy(mem);
}
END_TEST

START_TEST(regions_are_aligned_for_huge_pages)
{
    struct guest_memory *mem = two_regions();

    for (unsigned i = 0; i < 2; i++)
        ck_assert_uint_eq((uintptr_t)guest_memory_region(mem, i)->host % (2 * MIB), 0);
    ck_assert_ptr_null(guest_memory_region(mem, 2));
    guest_memory_destroy(mem);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tcase = tcase_create("memory");

    tcase_add_test(tcase, addresses_inside_ram);
    tcase_add_test(tcase, addresses_outside_ram_are_refused);
    tcase_add_test(tcase, a_write_is_read_back);
    tcase_add_test(tcase, clear_zeroes_every_byte);
    tcase_add_loop_test(tcase, clear_zeroes_a_region_of_each_backing, MEMORY_ANONYMOUS,
                        MEMORY_PRIVATE_FILE + 1);
    tcase_add_loop_test(tcase, discard_frees_only_the_pages_of_the_range_for_each_backing,
                        MEMORY_ANONYMOUS, MEMORY_PRIVATE_FILE + 1);
    tcase_add_test(tcase, discard_refuses_partial_pages_and_several_regions);
    tcase_add_loop_test(tcase, forget_frees_whole_pages_without_a_mapping_for_each_backing,
                        MEMORY_ANONYMOUS, MEMORY_PRIVATE_FILE + 1);
    tcase_add_test(tcase, forget_leaves_what_is_no_whole_page);
    tcase_add_test(tcase, the_guest_reads_a_private_file_and_never_writes_it);
    tcase_add_test(tcase, an_unsuitable_file_is_refused);
    tcase_add_test(tcase, more_memory_than_the_host_has_is_refused);
    tcase_add_loop_test(tcase, ram_is_not_dumped, 0, 2);
    tcase_add_test(tcase, regions_are_aligned_for_huge_pages);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
