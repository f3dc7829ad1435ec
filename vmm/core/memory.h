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

struct ram_region {
    gpa_t base;
    uint64_t size; /* bytes */
    void *host;    /* for whoever maps it into the guest; everybody else uses guest_ptr() */
};

struct guest_memory *guest_memory_create(void); /* NULL: out of memory */
void guest_memory_destroy(struct guest_memory *mem);

/*
 * Adds `size` bytes of zeroed RAM at `base`, both multiples of the host's page size. Pages come
 * into being when first touched. -ENOMEM if the host does not give them, -ENOSPC if there are
 * GUEST_MEMORY_REGIONS already. Prints nothing.
 */
int guest_memory_add(struct guest_memory *mem, gpa_t base, uint64_t size);

/* Every byte is zero again and its page given back to the host. The vCPUs are stopped. */
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
