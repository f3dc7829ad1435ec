/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_MEMORY_H
#define VMM_CORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* A guest-physical address. Never a pointer, never added to one. */
typedef uint64_t gpa_t;

/* Guest RAM: a few regions, fixed before the first vCPU runs, so lookups take no lock. */
struct guest_memory;

#define GUEST_MEMORY_REGIONS 4

/* Where the pages of a region come from, and who sees what is written to them. */
enum memory_kind {
    MEMORY_ANONYMOUS,    /* zeroed pages of this process */
    MEMORY_SHARED,       /* of a memfd: what is written is seen by every process that maps it */
    MEMORY_PRIVATE_FILE, /* a file's bytes; what is written stays in this process */
};

struct memory_backing {
    enum memory_kind kind;
    int fd;          /* not of MEMORY_ANONYMOUS; -1 with MEMORY_SHARED: a new memfd */
    uint64_t offset; /* of the region's first byte in the file; a multiple of the page size */
};

struct ram_region {
    gpa_t base;
    uint64_t size; /* bytes */
    void *host;    /* for whoever maps it into the guest; everybody else uses guest_ptr() */
    struct memory_backing backing; /* fd: guest memory's own if MEMORY_SHARED, otherwise -1 */
};

struct guest_memory *guest_memory_create(void); /* NULL: out of memory */
void guest_memory_destroy(struct guest_memory *mem);

/*
 * Adds a region of RAM: `size` bytes at `base`, both multiples of the host's page size. Pages come
 * into being when first touched. `backing` NULL means anonymous. Its descriptor stays the caller's
 * and may be closed at once. The file must not become shorter while `mem` exists: touching a page
 * that is gone is a SIGBUS.
 *
 * -ENOSPC if there are GUEST_MEMORY_REGIONS already; -ENOMEM if the host does not give the memory;
 * -EINVAL for a file shorter than offset + size, an unaligned offset, or a private mapping of
 * hugetlbfs, where a write without a free huge page is a SIGBUS; else what the host said. Prints
 * nothing.
 */
int guest_memory_add(struct guest_memory *mem, gpa_t base, uint64_t size,
                     const struct memory_backing *backing);

/*
 * Gives the pages of [gpa, gpa + len) back to the host; the bytes read zero afterwards, whatever
 * the backing: those of a private file do not come back. Where the host refuses, as it may for
 * locked memory, they are only zeroed. Other processes that map a shared region see zeros, too.
 * Any thread, while no device uses the range.
 *
 * -EINVAL unless both are multiples of the host's page size; -EFAULT unless one region holds all
 * of the range.
 */
int guest_memory_discard(struct guest_memory *mem, gpa_t gpa, uint64_t len);

/*
 * Makes every byte zero and gives the pages back to the host. The file of a MEMORY_PRIVATE_FILE
 * region stays as it is; the region is anonymous from then on. vCPUs and devices are stopped.
 */
void guest_memory_clear(struct guest_memory *mem);

/* The regions in the order they were added; NULL past the last. */
const struct ram_region *guest_memory_region(const struct guest_memory *mem, unsigned index);

/* Copy to or from the guest. 0, or -EFAULT with nothing copied if any byte lies outside RAM. */
int guest_read(const struct guest_memory *mem, gpa_t gpa, void *dst, size_t len);
int guest_write(struct guest_memory *mem, gpa_t gpa, const void *src, size_t len);

/*
 * The host view of [gpa, gpa + len), or NULL unless one region holds all of it. Valid as long as
 * `mem`. The guest may write there at any time: copy out, then check, then use the copy.
 */
void *guest_ptr(const struct guest_memory *mem, gpa_t gpa, size_t len);

#endif
