/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_MEMORY_H
#define VMM_CORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* A guest-physical address. Never a pointer, never added to one. */
typedef uint64_t gpa_t;

/* Guest RAM: a few regions, all added before the first vCPU runs, so lookups take no lock. */
struct guest_memory;

#define GUEST_MEMORY_REGIONS 4

/* Where the pages of a region come from. */
enum memory_kind {
    MEMORY_ANONYMOUS,    /* zeroed pages of this process */
    MEMORY_PRIVATE_FILE, /* a file's bytes, copy on write: writes stay in this process */
};

struct memory_backing {
    enum memory_kind kind;
    int fd;          /* unused for MEMORY_ANONYMOUS */
    uint64_t offset; /* of the region's first byte in the file; a multiple of the page size */
};

struct ram_region {
    gpa_t base;
    uint64_t size; /* bytes */
    void *host;    /* for KVM's memory slots only; all other code uses guest_ptr() */
    struct memory_backing backing; /* its fd is owned by guest memory; MEMORY_ANONYMOUS: -1 */
};

struct guest_memory *guest_memory_create(void); /* NULL: out of memory */
void guest_memory_destroy(struct guest_memory *mem);

/*
 * Adds a region of RAM: `size` bytes at `base`, both multiples of the host's page size. Pages are
 * allocated when first touched. `backing` NULL means anonymous. Its descriptor stays the caller's,
 * who may close it afterwards. The file must not be truncated while `mem` exists: access to a
 * missing page raises SIGBUS.
 *
 * -ENOSPC if there are GUEST_MEMORY_REGIONS already; -ENOMEM if the host has too little memory;
 * -EINVAL for a file shorter than offset + size, an unaligned offset, or a file of hugetlbfs, where
 * a write without a free huge page raises SIGBUS; or another error of mmap() and the like. Prints
 * nothing.
 */
int guest_memory_add(struct guest_memory *mem, gpa_t base, uint64_t size,
                     const struct memory_backing *backing);

/*
 * Returns the pages of [gpa, gpa + len) to the host. Afterwards the bytes read as zero, whatever
 * the backing: a private file's contents do not reappear. Where the host refuses, as it may for
 * locked memory, the pages are only zeroed. Any thread, while no device uses the range.
 *
 * -EINVAL unless `gpa` and `len` are multiples of the host's page size; -EFAULT unless the range
 * lies in one region.
 */
int guest_memory_discard(struct guest_memory *mem, gpa_t gpa, uint64_t len);

/*
 * Returns the whole pages within [host, host + len), which is part of a slice of guest RAM, to the
 * host, where that takes no new mapping. Their contents are undefined afterwards: as they were,
 * zeros, or what a private file has there. Any thread; a device that uses the range meanwhile may
 * find either.
 */
void guest_memory_forget(const struct guest_memory *mem, void *host, size_t len);

/*
 * Zeroes all RAM and returns the pages to the host. A MEMORY_PRIVATE_FILE region becomes
 * anonymous; its file stays unchanged. Call with vCPUs and devices stopped.
 */
void guest_memory_clear(struct guest_memory *mem);

/* The region with this index, in the order of guest_memory_add(); NULL past the last. */
const struct ram_region *guest_memory_region(const struct guest_memory *mem, unsigned index);

/* Copy from or to guest RAM. -EFAULT, with nothing copied, unless one region holds all of it. */
int guest_read(const struct guest_memory *mem, gpa_t gpa, void *dst, size_t len);
int guest_write(struct guest_memory *mem, gpa_t gpa, const void *src, size_t len);

/*
 * The host address of [gpa, gpa + len), or NULL unless one region holds all of it. Valid as long
 * as `mem`. The guest may write there at any time: copy out, then check, then use the copy.
 */
void *guest_ptr(const struct guest_memory *mem, gpa_t gpa, size_t len);

#endif
