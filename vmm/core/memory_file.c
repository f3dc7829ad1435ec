/* SPDX-License-Identifier: MIT */
#include "vmm/core/memory_file.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/endian.h"
#include "vmm/core/memory.h"
#include "vmm/core/page_map.h"
#include "vmm/core/write.h"

#define PAGE 4096u /* what is skipped if it is zero; a hole's granularity */

static const char trailer_magic[16] = "MINIVMM RAM";

struct trailer {
    char magic[sizeof(trailer_magic)];
    uint8_t id[SNAPSHOT_ID_SIZE];
    le64 size; /* of the RAM before it, in bytes */
    uint8_t zero[PAGE - 40];
};

static bool is_zero(const uint8_t *page)
{
    return *page == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

/* Writes the pages of [at, end) that are not zero; `offset` is that of `at` in the file. */
static int write_pages(int file, const uint8_t *at, const uint8_t *end, uint64_t offset)
{
    int error = 0;

    while (at < end && !error) {
        const uint8_t *run = at;

        while (at < end && !is_zero(at))
            at += PAGE;
        error = write_all_at(file, run, (size_t)(at - run), offset);
        offset += (uint64_t)(at - run);
        for (; at < end && is_zero(at); at += PAGE)
            offset += PAGE;
    }
    return error;
}

/* What the file below a private mapping holds, as the mapping shows it. */
static int write_template(int file, const struct ram_region *ram, uint64_t offset)
{
    const uint8_t *host = ram->host;
    off_t begin = (off_t)ram->backing.offset, end = begin + (off_t)ram->size;
    off_t data = lseek(ram->backing.fd, begin, SEEK_DATA);
    int error = 0;

    while (data >= 0 && data < end && !error) {
        off_t hole = lseek(ram->backing.fd, data, SEEK_HOLE);
        uint64_t first = align_down((uint64_t)(data - begin), PAGE), last;

        if (hole < 0)
            return -errno;
        last = align_up((uint64_t)((hole < end ? hole : end) - begin), PAGE);
        error = write_pages(file, host + first, host + last, offset + first);
        data = lseek(ram->backing.fd, hole, SEEK_DATA);
    }
    return data < 0 && errno != ENXIO ? -errno : error;
}

static int write_region(int file, const struct ram_region *ram, int pagemap, uint64_t offset)
{
    const uint8_t *host = ram->host;
    struct page_map map;
    struct page_run run;
    int more = 0, error = 0;

    if (ram->backing.kind == MEMORY_PRIVATE_FILE)
        error = write_template(file, ram, offset);
    page_map_begin(&map, pagemap, host, ram->size);
    while (!error && (more = page_map_next(&map, &run)) > 0)
        error = write_pages(file, (const uint8_t *)run.start, (const uint8_t *)run.end,
                            offset + (run.start - (uintptr_t)host));
    return error ? error : more;
}

int memory_file_write(const struct guest_memory *mem, int file, int pagemap,
                      const uint8_t id[SNAPSHOT_ID_SIZE])
{
    struct trailer trailer = { .zero = { 0 } };
    const struct ram_region *ram;
    uint64_t size = 0;
    int error;

    for (unsigned i = 0; (ram = guest_memory_region(mem, i)); i++) {
        error = write_region(file, ram, pagemap, size);
        if (error)
            return error;
        size += ram->size;
    }
    memcpy(trailer.magic, trailer_magic, sizeof(trailer_magic));
    memcpy(trailer.id, id, SNAPSHOT_ID_SIZE);
    le64_store(&trailer.size, size);
    return write_all_at(file, &trailer, sizeof(trailer), size);
}

int memory_file_check(int file, uint64_t size, const uint8_t id[SNAPSHOT_ID_SIZE])
{
    struct trailer trailer;
    struct stat st;

    if (fstat(file, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size + sizeof(trailer) ||
        pread(file, &trailer, sizeof(trailer), (off_t)size) != sizeof(trailer) ||
        memcmp(trailer.magic, trailer_magic, sizeof(trailer_magic)) != 0 ||
        le64_load(&trailer.size) != size)
        return -EINVAL;
    return memcmp(trailer.id, id, SNAPSHOT_ID_SIZE) ? -ESTALE : 0;
}

/* All at once is seven times as fast, if there are many; before Linux 6.15 only one can be. */
static int forget_runs(const struct iovec *runs, unsigned count)
{
    size_t size = 0;

    for (unsigned i = 0; i < count; i++)
        size += runs[i].iov_len;
    if (syscall(SYS_process_madvise, MEMORY_OF_SELF, runs, count, MADV_DONTNEED, 0) ==
        (ssize_t)size)
        return 0;
    for (unsigned i = 0; i < count; i++)
        if (madvise(runs[i].iov_base, runs[i].iov_len, MADV_DONTNEED) < 0)
            return -errno;
    return 0;
}

static int rewind_region(const struct ram_region *ram, int pagemap)
{
    struct iovec runs[256];
    unsigned count = 0;
    struct page_map map;
    struct page_run run;
    int more, error = 0;

    page_map_begin(&map, pagemap, ram->host, ram->size);
    while (!error && (more = page_map_next(&map, &run)) > 0) {
        runs[count++] = (struct iovec){ (void *)run.start, run.end - run.start };
        if (count < ARRAY_SIZE(runs))
            continue;
        error = forget_runs(runs, count);
        count = 0;
    }
    if (!error)
        error = more ? more : forget_runs(runs, count);
    return error;
}

int memory_file_rewind(const struct guest_memory *mem, int pagemap)
{
    const struct ram_region *ram;
    int error = 0;

    for (unsigned i = 0; (ram = guest_memory_region(mem, i)); i++)
        if (ram->backing.kind != MEMORY_PRIVATE_FILE)
            return -ENOTSUP;
    for (unsigned i = 0; (ram = guest_memory_region(mem, i)) && !error; i++)
        error = rewind_region(ram, pagemap);
    return error;
}
