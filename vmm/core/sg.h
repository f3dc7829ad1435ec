/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_SG_H
#define VMM_CORE_SG_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/*
 * A scattered slice of guest memory: `length` bytes that begin `skip` bytes into `iov`. Reads and
 * writes consume bytes from its front. Where one piece ends and the next begins has no meaning.
 */
struct sg {
    struct iovec *iov; /* the pieces; they belong to the creator of the slice */
    size_t skip;       /* bytes */
    size_t length;     /* bytes */
};

/* Copy, zero or skip `len` bytes and consume them; false, with nothing done, if fewer are left. */
bool sg_read(struct sg *sg, void *dst, size_t len);
bool sg_write(struct sg *sg, const void *src, size_t len);
bool sg_zero(struct sg *sg, size_t len);
bool sg_skip(struct sg *sg, size_t len);

/* The longest contiguous run at the front of a non-empty slice. Consumes nothing. */
struct iovec sg_front(struct sg *sg);

/* Removes the last byte (virtio-blk's status) and returns its address; NULL: empty. */
void *sg_take_last_byte(struct sg *sg);

/*
 * Trims the pieces themselves to the slice, so that sg->iov can be passed to readv() and the like.
 * Returns the number of pieces. Invalidates other slices that share a piece with this one.
 */
unsigned sg_trim(struct sg *sg);

#endif
