/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_IMAGE_H
#define FIRMWARE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/core/memory.h"

/*
 * A host file to load into the guest: a kernel, an initrd, a device tree. It stays open so that a
 * reset can load it again. The contents are untrusted and the file may shrink at any time: every
 * read is checked. On failure these functions log the reason with the file's name and return
 * -errno.
 */
struct image {
    int fd;
    const char *path; /* owned by the caller, who keeps it until image_close() */
    uint64_t start;   /* of the image in the file; offsets below are relative to it */
    uint64_t size;    /* bytes, when it was opened; never 0 */
};

/* Opens a regular, non-empty file; refuses directories, pipes, devices and sockets. */
int image_open(struct image *ret_image, const char *path);

/* The same with a duplicate of the caller's `fd`; opens `path` if `fd` is -1. */
int image_open_fd(struct image *ret_image, int fd, const char *path);

void image_close(struct image *image);

/* Reads [offset, offset + len). -EINVAL if the file is shorter; any values are safe. */
int image_read(const struct image *image, uint64_t offset, void *dst, size_t len);

/* Reads straight into guest RAM at `gpa`. -EFAULT if the range is not RAM. */
int image_load(const struct image *image, uint64_t offset, uint64_t len, struct guest_memory *mem,
               gpa_t gpa);

/*
 * Writes a table made for the guest to a new file at `path`, for the user to inspect, and for
 * nobody else: the guest's seeds may be in it, and the process may have no umask any more
 * (share.h).
 */
int image_save(const char *path, const void *bytes, size_t size);

#endif
