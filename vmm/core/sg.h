/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_SG_H
#define VMM_CORE_SG_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/*
 * A slice of guest memory that lies in pieces: `length` bytes, from `skip` bytes into `iov` on.
 * Taking bytes off either end moves the slice. Where the cuts lie means nothing.
 */
struct sg {
    struct iovec *iov; /* the pieces belong to whoever made the slice */
    size_t skip;       /* bytes */
    size_t length;     /* bytes */
};

/* Copy `len` bytes and step past them; false, with nothing done, if fewer are left. */
bool sg_read(struct sg *sg, void *dst, size_t len);
bool sg_write(struct sg *sg, const void *src, size_t len);
bool sg_zero(struct sg *sg, size_t len);
bool sg_skip(struct sg *sg, size_t len);

/* The longest contiguous run at the front of a non-empty slice. Takes nothing. */
struct iovec sg_front(struct sg *sg);

/* Cuts the last byte off and gives its address, or NULL: where virtio-blk wants its status. */
void *sg_take_last_byte(struct sg *sg);

/*
 * Cuts the pieces themselves down to the slice, so that sg->iov can go to readv() and friends;
 * returns how many they are. Slices that share a piece with this one are no longer valid.
 */
unsigned sg_trim(struct sg *sg);

#endif
