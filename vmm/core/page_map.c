/* SPDX-License-Identifier: MIT */
#include "vmm/core/page_map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/core/base.h"

/* An entry of the file for each page (Documentation/admin-guide/mm/pagemap.rst). */
#define ENTRY_PRESENT BIT(63)
#define ENTRY_SWAPPED BIT(62)
#define ENTRY_FILE    BIT(61)

int page_map_open(void)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

void page_map_begin(struct page_map *map, int fd, const void *start, size_t size)
{
    map->fd = fd;
    map->at = (uintptr_t)start;
    map->end = map->at + size;
    map->count = map->next = 0;
}

static int page_map_scan(struct page_map *map)
{
    struct page_region regions[ARRAY_SIZE(map->found)];
    struct pm_scan_arg scan = {
        .size = sizeof(scan),
        .start = map->at,
        .end = map->end,
        .vec = (uintptr_t)regions,
        .vec_len = ARRAY_SIZE(regions),
        .category_inverted = PAGE_IS_FILE | PAGE_IS_PFNZERO,
        .category_mask = PAGE_IS_FILE | PAGE_IS_PFNZERO,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    };
    int found = ioctl(map->fd, PAGEMAP_SCAN, &scan);

    if (found < 0)
        return -errno;
    for (int i = 0; i < found; i++)
        map->found[i] = (struct page_run){ regions[i].start, regions[i].end };
    map->count = (unsigned)found;
    map->at = scan.walk_end;
    return 0;
}

static bool page_map_is_own(uint64_t entry)
{
    return entry & (ENTRY_PRESENT | ENTRY_SWAPPED) && !(entry & ENTRY_FILE);
}

/* Before Linux 6.7: reads an entry for each page. Pages of zeros may be among those found. */
static int page_map_read(struct page_map *map)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uint64_t entries[512];

    while (map->at < map->end && map->count < ARRAY_SIZE(map->found)) {
        size_t left = (map->end - map->at) / page;
        size_t want = left < ARRAY_SIZE(entries) ? left : ARRAY_SIZE(entries);
        ssize_t got = pread(map->fd, entries, want * sizeof(*entries),
                            (off_t)(map->at / page * sizeof(*entries)));

        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, map->at += page) {
            struct page_run *last = map->count ? &map->found[map->count - 1] : NULL;

            if (!page_map_is_own(entries[i]))
                continue;
            if (last && last->end == map->at)
                last->end += page;
            else if (map->count < ARRAY_SIZE(map->found))
                map->found[map->count++] = (struct page_run){ map->at, map->at + page };
            else
                return 0; /* this page comes first the next time */
        }
    }
    return 0;
}

int page_map_next(struct page_map *map, struct page_run *ret)
{
    while (map->next == map->count && map->at < map->end) {
        int error;

        map->next = map->count = 0;
        error = page_map_scan(map);
        if (error == -ENOTTY || error == -EINVAL)
            error = page_map_read(map);
        if (error)
            return error;
    }
    if (map->next == map->count)
        return 0;
    *ret = map->found[map->next++];
    return 1;
}
