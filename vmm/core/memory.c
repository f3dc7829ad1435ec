/* SPDX-License-Identifier: MIT */
#include "vmm/core/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"

#define HUGE_PAGE (2 * MIB)

struct guest_memory {
    unsigned count;
    struct ram_region regions[GUEST_MEMORY_REGIONS];
};

struct guest_memory *guest_memory_create(void)
{
    return calloc(1, sizeof(struct guest_memory));
}

static void region_unmap(struct ram_region *region)
{
    munmap(region->host, region->size);
    if (region->backing.fd >= 0)
        close(region->backing.fd);
}

void guest_memory_destroy(struct guest_memory *mem)
{
    if (!mem)
        return;
    for (unsigned i = 0; i < mem->count; i++)
        region_unmap(&mem->regions[i]);
    free(mem);
}

/* Maps anonymous memory at a multiple of the huge page size. */
static void *region_map_anonymous(uint64_t size)
{
    char *raw = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t head;

    if (raw == MAP_FAILED)
        return NULL;

    head = align_up((uintptr_t)raw, HUGE_PAGE) - (uintptr_t)raw;
    if (head > 0)
        munmap(raw, head);
    munmap(raw + head + size, HUGE_PAGE - head);
    return raw + head;
}

/*
 * Huge pages cause a twentieth of the nested page faults. The first 2 MiB of a region are left
 * out: a guest boots there, and touches only a few small pages.
 */
static void region_advise(const struct ram_region *region)
{
    madvise(region->host, region->size,
            MADV_DONTDUMP);       /* a guest's secrets are not for core files */
    if (region->size > HUGE_PAGE) /* fails on hosts without huge pages, which is harmless */
        madvise((char *)region->host + HUGE_PAGE, region->size - HUGE_PAGE, MADV_HUGEPAGE);
}

static int region_check_file(int fd, const struct memory_backing *backing, uint64_t size)
{
    struct stat file;
    struct statfs fs;

    if (fstat(fd, &file) < 0 || fstatfs(fd, &fs) < 0)
        return -errno;
    if (backing->offset > (uint64_t)file.st_size || size > (uint64_t)file.st_size - backing->offset)
        return -EINVAL;
    if ((uint32_t)fs.f_type == HUGETLBFS_MAGIC)
        return -EINVAL;
    return 0;
}

/* Maps the file over the region's anonymous pages, to keep their alignment. */
static int region_map_file(struct ram_region *region, const struct memory_backing *backing)
{
    cleanup_close int fd = fcntl(backing->fd, F_DUPFD_CLOEXEC, 0);
    int error = fd < 0 ? -errno : region_check_file(fd, backing, region->size);

    if (error)
        return error;
    if (mmap(region->host, region->size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, (off_t)backing->offset) == MAP_FAILED)
        return -errno;
    region->backing = *backing;
    region->backing.fd = take_fd(&fd);
    return 0;
}

int guest_memory_add(struct guest_memory *mem, gpa_t base, uint64_t size,
                     const struct memory_backing *backing)
{
    struct ram_region region = { .base = base, .size = size, .backing.fd = -1 };
    int error = 0;

    if (mem->count == ARRAY_SIZE(mem->regions))
        return -ENOSPC;
    if (size > SIZE_MAX - HUGE_PAGE)
        return -ENOMEM;

    region.host = region_map_anonymous(size);
    if (!region.host)
        return -ENOMEM;
    if (backing && backing->kind != MEMORY_ANONYMOUS)
        error = region_map_file(&region, backing);
    else
        region_advise(&region);
    if (error)
        region_unmap(&region);
    else
        mem->regions[mem->count++] = region;
    return error;
}

/* The region that contains all of [gpa, gpa + len), or NULL. */
static const struct ram_region *region_find(const struct guest_memory *mem, gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct ram_region *region = &mem->regions[i];

        /* Subtract rather than add: a sum could overflow. */
        if (gpa >= region->base && gpa - region->base <= region->size &&
            len <= region->size - (gpa - region->base))
            return region;
    }
    return NULL;
}

static void region_discard(const struct ram_region *region, uint64_t offset, size_t len)
{
    void *host = (char *)region->host + offset;
    bool is_done = false;

    switch (region->backing.kind) {
    case MEMORY_ANONYMOUS:
        is_done = madvise(host, len, MADV_DONTNEED) == 0;
        break;
    case MEMORY_PRIVATE_FILE: /* MADV_DONTNEED would restore the file's contents */
        is_done =
            mmap(host, len, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
        break;
    }
    if (!is_done)
        memset(host, 0, len);
}

int guest_memory_discard(struct guest_memory *mem, gpa_t gpa, uint64_t len)
{
    const struct ram_region *region = region_find(mem, gpa, len);
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

    if (gpa % page || len % page)
        return -EINVAL;
    if (!region)
        return -EFAULT;
    region_discard(region, gpa - region->base, len);
    return 0;
}

/* The region that contains all of [host, host + len), or NULL. */
static const struct ram_region *region_of(const struct guest_memory *mem, const void *host,
                                          size_t len)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct ram_region *region = &mem->regions[i];
        uintptr_t start = (uintptr_t)region->host, at = (uintptr_t)host;

        if (at >= start && at - start <= region->size && len <= region->size - (at - start))
            return region;
    }
    return NULL;
}

void guest_memory_forget(const struct guest_memory *mem, void *host, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t head = align_up((uintptr_t)host, page) - (uintptr_t)host;

    assert(region_of(mem, host, len));
    if (len < head || len - head < page)
        return;
    /* May fail, as for locked memory: that leaves the pages as they are. */
    madvise((char *)host + head, align_down(len - head, page), MADV_DONTNEED);
}

void guest_memory_clear(struct guest_memory *mem)
{
    for (unsigned i = 0; i < mem->count; i++) {
        struct ram_region *region = &mem->regions[i];

        region_discard(region, 0, region->size);
        if (region->backing.kind == MEMORY_PRIVATE_FILE) {
            close(region->backing.fd);
            region->backing = (struct memory_backing){ .kind = MEMORY_ANONYMOUS, .fd = -1 };
            region_advise(region);
        }
    }
}

const struct ram_region *guest_memory_region(const struct guest_memory *mem, unsigned index)
{
    return index < mem->count ? &mem->regions[index] : NULL;
}

void *guest_ptr(const struct guest_memory *mem, gpa_t gpa, size_t len)
{
    const struct ram_region *region = region_find(mem, gpa, len);

    return region ? (char *)region->host + (gpa - region->base) : NULL;
}

int guest_read(const struct guest_memory *mem, gpa_t gpa, void *dst, size_t len)
{
    const void *src = guest_ptr(mem, gpa, len);

    if (!src)
        return -EFAULT;
    memcpy(dst, src, len);
    return 0;
}

int guest_write(struct guest_memory *mem, gpa_t gpa, const void *src, size_t len)
{
    void *dst = guest_ptr(mem, gpa, len);

    if (!dst)
        return -EFAULT;
    memcpy(dst, src, len);
    return 0;
}
