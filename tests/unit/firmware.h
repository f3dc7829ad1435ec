/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_FIRMWARE_H
#define TESTS_UNIT_FIRMWARE_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "firmware/image.h"

/* Shared by tests of loaders and tables: files in memory, guest RAM, captured log lines. */

/* A file in memory with these bytes. Aborts on failure. */
static inline struct image made_image(const void *bytes, size_t size)
{
    struct image image = { .fd = memfd_create("made", MFD_CLOEXEC), .path = "made", .size = size };

    if (image.fd < 0 || pwrite(image.fd, bytes, size, 0) != (ssize_t)size)
        abort();
    return image;
}

static inline struct guest_memory *made_ram(gpa_t base, uint64_t size)
{
    struct guest_memory *mem = guest_memory_create();

    if (!mem || guest_memory_add(mem, base, size, NULL) < 0)
        abort();
    return mem;
}

static inline struct guest_memory *made_memory(uint64_t size)
{
    return made_ram(0, size);
}

/* Redirects stderr to memory until the process ends, for logged(). */
static inline void log_capture(void)
{
    int fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
        abort();
    close(fd);
}

/* True if exactly one line was logged since the last call, and it contains `words`. */
static inline bool logged(const char *words)
{
    char text[4096] = "";
    const char *end;

    if (pread(STDERR_FILENO, text, sizeof(text) - 1, 0) < 0 || ftruncate(STDERR_FILENO, 0) < 0 ||
        lseek(STDERR_FILENO, 0, SEEK_SET) < 0)
        abort();
    end = strchr(text, '\n');
    return strstr(text, words) && end && end[1] == '\0';
}

#endif
