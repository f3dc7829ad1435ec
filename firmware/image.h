/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_IMAGE_H
#define FIRMWARE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/core/memory.h"

/*
 * A file of the host's user that is loaded into the guest. It stays open so that a reset can load
 * it again. Its contents may be anything, and may shrink while we look: every read is checked.
 * These functions print why they fail, naming the file, and return -errno.
 */
struct image {
    int fd;
    const char *path; /* the caller's */
    uint64_t size;    /* bytes, when it was opened; never 0 */
};

/* Only a plain file will do: nothing that blocks, has no size or acts when it is opened. */
int image_open(struct image *ret_image, const char *path);

/* The same for what the caller has open, which stays the caller's; -1: opens `path`. */
int image_open_fd(struct image *ret_image, int fd, const char *path);

void image_close(struct image *image);

/* -EINVAL if the file does not hold all of [offset, offset + len). Any values are safe. */
int image_read(const struct image *image, uint64_t offset, void *dst, size_t len);

/* The same into guest RAM, without a copy in between; -EFAULT where there is no RAM. */
int image_load(const struct image *image, uint64_t offset, uint64_t len, struct guest_memory *mem,
               gpa_t gpa);

/* Writes a file of what the guest is given, for the user to look at. Prints; -errno. */
int image_save(const char *path, const void *bytes, size_t size);

#endif
