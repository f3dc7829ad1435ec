/* SPDX-License-Identifier: MIT */
#include "vmm/core/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/unit/firmware.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

/* Offsets in the header. */
enum { FORMAT = 8, MACHINE = 12, LENGTH = 16, ID = 24, SECTIONS = 40, CHECKSUM = 44, HEADER = 48 };

#define MAX_FILE 512

static const uint8_t id[SNAPSHOT_ID_SIZE] = "0123456789abcde";

static void save(struct state *s)
{
    uint32_t number = 0x12345678;

    state_begin_save(s);
    for (unsigned i = 0; i < 3; i++) {
        state_section(s, i ? "thing" : "empty", (uint16_t)(i + 1));
        if (i)
            state_u32(s, "number", &number);
        state_end_section(s);
    }
    ck_assert_int_eq(s->error, 0);
}

/* A file with the state of save(). */
static int written(size_t *ret_size)
{
    int fd = memfd_create("state", MFD_CLOEXEC);
    struct state s;

    save(&s);
    ck_assert_int_eq(state_file_write(fd, &s, id), 0);
    *ret_size = HEADER + s.at + 3 * 4;
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)*ret_size);
    state_finish(&s);
    return fd;
}

static int read_back(int fd)
{
    struct state_file file;
    int error = state_file_read(fd, "state", &file);

    state_file_free(&file);
    return error;
}

/* Writes bytes and makes the header's checksum right again. */
static void put(int fd, off_t offset, const void *bytes, size_t size)
{
    uint8_t header[CHECKSUM];
    le32 checksum;

    ck_assert_int_eq(pwrite(fd, bytes, size, offset), (ssize_t)size);
    ck_assert_int_eq(pread(fd, header, sizeof(header), 0), sizeof(header));
    le32_store(&checksum, crc32c(header, sizeof(header)));
    ck_assert_int_eq(pwrite(fd, &checksum, sizeof(checksum), CHECKSUM), sizeof(checksum));
}

static void put32(int fd, off_t offset, uint32_t value)
{
    le32 bytes;

    le32_store(&bytes, value);
    put(fd, offset, &bytes, sizeof(bytes));
}

START_TEST(crc32c_is_castagnolis)
{
    ck_assert_uint_eq(crc32c("123456789", 9), 0xe3069283);
    ck_assert_uint_eq(crc32c("", 0), 0);
}
END_TEST

START_TEST(a_state_is_read_as_it_was_written)
{
    struct state_file file;
    struct state s;
    size_t size;
    int fd = written(&size);

    save(&s);
    ck_assert_int_eq(state_file_read(fd, "state", &file), 0);
    ck_assert_uint_eq(file.size, s.at);
    ck_assert_mem_eq(file.sections, s.bytes, s.at);
    ck_assert_mem_eq(file.id, id, sizeof(id));
    ck_assert(state_file_is(fd));
    state_finish(&s);
    state_file_free(&file);
    state_file_free(&file);
    close(fd);
}
END_TEST

START_TEST(every_changed_byte_is_noticed)
{
    static const uint8_t changes[] = { 0x01, 0x80, 0xff };
    size_t size;
    int fd = written(&size);

    log_capture();
    for (size_t at = 0; at < size; at++)
        for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
            uint8_t was, byte;

            ck_assert_int_eq(pread(fd, &was, 1, (off_t)at), 1);
            byte = was ^ changes[i];
            ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
            ck_assert_int_eq(read_back(fd), -EINVAL);
            ck_assert(logged("state: "));
            ck_assert_int_eq(pwrite(fd, &was, 1, (off_t)at), 1);
        }
    ck_assert_int_eq(read_back(fd), 0);
    close(fd);
}
END_TEST

START_TEST(every_missing_or_additional_byte_is_noticed)
{
    size_t size;
    int fd = written(&size);

    log_capture();
    ck_assert_int_eq(ftruncate(fd, (off_t)size + 1), 0);
    ck_assert_int_eq(read_back(fd), -EINVAL);
    while (size-- > 0) {
        ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
        ck_assert_int_eq(read_back(fd), -EINVAL);
        ck_assert(size > 0 || !state_file_is(fd));
    }
    close(fd);
}
END_TEST

/* Somebody who can calculate a checksum. */
START_TEST(lengths_are_not_believed)
{
    static const uint32_t counts[] = { 0, 1, 2, 4, 100, 4097, 0x40000003, ~0u };
    static const uint32_t lengths[] = { 0, 1, 8, 9, 200, 0x7fffffff, ~3u, ~0u };
    size_t size;
    int fd = written(&size);

    log_capture();
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        put32(fd, SECTIONS, counts[i]);
        ck_assert_int_eq(read_back(fd), -EINVAL);
        ck_assert(logged("state: damaged"));
    }
    put32(fd, SECTIONS, 3);
    ck_assert_int_eq(read_back(fd), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        uint8_t bytes[MAX_FILE];
        le32 length, checksum;

        if (lengths[i] == 8)
            continue; /* as it is */
        le32_store(&length, lengths[i]);
        ck_assert_int_eq(pwrite(fd, &length, sizeof(length), HEADER), sizeof(length));
        ck_assert_int_eq(pread(fd, bytes, sizeof(bytes), HEADER), (ssize_t)size - HEADER);
        if (lengths[i] + 4 < size - HEADER) {
            le32_store(&checksum, crc32c(bytes, lengths[i] + 4));
            ck_assert_int_eq(pwrite(fd, &checksum, sizeof(checksum), (off_t)size - 12), 4);
        }
        ck_assert_int_eq(read_back(fd), -EINVAL);
        ck_assert(logged("state: damaged"));
    }
    close(fd);
}
END_TEST

START_TEST(a_file_without_sections)
{
    struct state s;
    int fd = memfd_create("state", MFD_CLOEXEC);

    state_begin_save(&s);
    ck_assert_int_eq(state_file_write(fd, &s, id), 0);
    ck_assert_int_eq(read_back(fd), 0);
    state_finish(&s);
    close(fd);
}
END_TEST

START_TEST(files_from_elsewhere)
{
    size_t size;
    int fd = written(&size);

    log_capture();
    put32(fd, FORMAT, 2);
    ck_assert_int_eq(read_back(fd), -EINVAL);
    ck_assert(logged("state: made by a newer minivmm (format 2; this one knows 1)"));
    put32(fd, FORMAT, 1);
    put32(fd, MACHINE, 2); /* SPARC */
    ck_assert_int_eq(read_back(fd), -EINVAL);
    ck_assert(logged("state: made on another architecture"));
    close(fd);
}
END_TEST

START_TEST(a_section_of_a_newer_minivmm)
{
    struct state_file file;
    struct state in;
    size_t size;
    int fd = written(&size);

    ck_assert_int_eq(state_file_read(fd, "state", &file), 0);
    state_begin_load(&in, file.sections, file.size);
    state_section(&in, "empty", 1);
    state_end_section(&in);
    state_section(&in, "thing", 1);
    state_end_section(&in);
    ck_assert_int_eq(state_finish(&in), -EINVAL);
    ck_assert_str_eq(in.why, "thing: version 2 was made by a newer minivmm; this one knows 1");
    state_file_free(&file);
    close(fd);
}
END_TEST

START_TEST(what_is_no_file)
{
    int ends[2], directory = open("/tmp", O_RDONLY | O_CLOEXEC);
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), large = memfd_create("large", MFD_CLOEXEC);

    log_capture();
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(ftruncate(large, 64ll << 40), 0);
    ck_assert_int_eq(read_back(ends[0]), -EINVAL);
    ck_assert_int_eq(read_back(directory), -EINVAL);
    ck_assert_int_eq(read_back(zero), -EINVAL);
    ck_assert_int_eq(read_back(large), -EINVAL);
    ck_assert_int_eq(read_back(-1), -EBADF);
    ck_assert(!state_file_is(ends[0]) && !state_file_is(directory) && !state_file_is(zero) &&
              !state_file_is(-1));
}
END_TEST

START_TEST(a_full_disk_is_an_error)
{
    const struct rlimit limit = { 100, RLIM_INFINITY };
    int fd = memfd_create("state", MFD_CLOEXEC), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct state s;

    save(&s);
    ck_assert_int_eq(state_file_write(full, &s, id), -ENOSPC);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(state_file_write(fd, &s, id), -ENOSPC); /* a part of it fits */
    state_finish(&s);
}
END_TEST

/* Else a machine that was saved, and has ended, could not be loaded. */
START_TEST(what_could_not_be_read_is_not_written)
{
    static uint8_t bytes[65 << 20];
    int fd = memfd_create("state", MFD_CLOEXEC);
    struct state s;

    state_begin_save(&s);
    state_section(&s, "large", 1);
    state_bytes(&s, "bytes", bytes, sizeof(bytes));
    state_end_section(&s);
    ck_assert_int_eq(state_file_write(fd, &s, id), -EFBIG);
    state_finish(&s);
    state_begin_save(&s);
    for (unsigned i = 0; i < 4097; i++) {
        state_section(&s, "one", 1);
        state_end_section(&s);
    }
    ck_assert_int_eq(state_file_write(fd, &s, id), -EFBIG);
    state_finish(&s);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_file");
    TCase *tcase = tcase_create("state_file");

    tcase_add_test(tcase, crc32c_is_castagnolis);
    tcase_add_test(tcase, a_state_is_read_as_it_was_written);
    tcase_add_test(tcase, every_changed_byte_is_noticed);
    tcase_add_test(tcase, every_missing_or_additional_byte_is_noticed);
    tcase_add_test(tcase, lengths_are_not_believed);
    tcase_add_test(tcase, a_file_without_sections);
    tcase_add_test(tcase, files_from_elsewhere);
    tcase_add_test(tcase, a_section_of_a_newer_minivmm);
    tcase_add_test(tcase, what_is_no_file);
    tcase_add_test(tcase, a_full_disk_is_an_error);
    tcase_add_test(tcase, what_could_not_be_read_is_not_written);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
