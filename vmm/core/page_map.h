/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_PAGE_MAP_H
#define VMM_CORE_PAGE_MAP_H

#include <linux/fs.h>
#include <stddef.h>
#include <stdint.h>

#ifndef PAGEMAP_SCAN /* <linux/fs.h> of Linux 6.7 */
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)

#define PAGE_IS_FILE    (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)

struct page_region {
    uint64_t start, end, categories;
};

struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#endif

/*
 * Which pages of a range of this process's memory are its own: written, and so neither a file's nor
 * the kernel's page of zeros. For a private mapping of a file these are the pages that differ from
 * it. One thread at a time; nobody writes to the range meanwhile.
 */
struct page_map {
    int fd;       /* /proc/self/pagemap: page_map_open() */
    uintptr_t at; /* where the search goes on */
    uintptr_t end;
    unsigned count, next; /* of `found` */
    struct page_run {
        uintptr_t start, end;
    } found[64];
};

/* A process that is not dumpable cannot open it. A descriptor; -errno. */
int page_map_open(void);

/* Begins a search of [start, end), multiples of the page size. */
void page_map_begin(struct page_map *map, int fd, const void *start, size_t size);

/* The next run of pages, in ascending order. 1; 0: there is none; -errno. */
int page_map_next(struct page_map *map, struct page_run *ret);

#endif
