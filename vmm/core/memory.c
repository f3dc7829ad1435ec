/* SPDX-License-Identifier: MIT */
#include "vmm/core/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/core/base.h"

#define HUGE_PAGE (2 * MIB)

struct guest_memory {
    unsigned count;
    struct ram_region regions[GUEST_MEMORY_REGIONS];
};

struct guest_memory *guest_memory_create(void)
{
    return calloc(1, sizeof(struct guest_memory));
}

void guest_memory_destroy(struct guest_memory *mem)
{
    if (!mem)
        return;
    for (unsigned i = 0; i < mem->count; i++)
        munmap(mem->regions[i].host, mem->regions[i].size);
    free(mem);
}

/*
 * Maps anonymous pages where huge pages can lie: twenty times fewer nested page faults. But for the
 * first one: there a guest starts, and touches a few small pages of it.
 */
static void *map_aligned(uint64_t size)
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
    if (size > HUGE_PAGE) /* fails harmlessly on hosts without them */
        madvise(raw + head + HUGE_PAGE, size - HUGE_PAGE, MADV_HUGEPAGE);
    return raw + head;
}

int guest_memory_add(struct guest_memory *mem, gpa_t base, uint64_t size)
{
    void *host;

    if (mem->count == ARRAY_SIZE(mem->regions))
        return -ENOSPC;
    if (size > SIZE_MAX - HUGE_PAGE)
        return -ENOMEM;

    host = map_aligned(size);
    if (!host)
        return -ENOMEM;

    mem->regions[mem->count++] = (struct ram_region){ .base = base, .size = size, .host = host };
    return 0;
}

void guest_memory_clear(struct guest_memory *mem)
{
    for (unsigned i = 0; i < mem->count; i++)
        if (madvise(mem->regions[i].host, mem->regions[i].size, MADV_DONTNEED) < 0)
            memset(mem->regions[i].host, 0, mem->regions[i].size); /* locked in memory */
}

const struct ram_region *guest_memory_region(const struct guest_memory *mem, unsigned index)
{
    return index < mem->count ? &mem->regions[index] : NULL;
}

void *guest_ptr(const struct guest_memory *mem, gpa_t gpa, size_t len)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct ram_region *region = &mem->regions[i];

        /* Subtract before comparing: no sum, so nothing to overflow. */
        if (gpa >= region->base && gpa - region->base <= region->size &&
            len <= region->size - (gpa - region->base))
            return (char *)region->host + (gpa - region->base);
    }
    return NULL;
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
