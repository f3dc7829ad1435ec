/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_PAGE_MAP_H
#define VMM_CORE_PAGE_MAP_H

#include <stddef.h>
#include <stdint.h>

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
