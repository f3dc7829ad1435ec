/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BUFFER_H
#define FIRMWARE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes written one after another into memory of fixed size, or into memory that grows. What does
 * not fit is dropped and `full` is set, so that a writer needs to look only once, at its end.
 */
struct buffer {
    uint8_t *data; /* the caller's; of one that grows: from malloc() */
    size_t size;   /* bytes */
    size_t used;   /* bytes */
    size_t limit;  /* bytes it may grow to; 0: it does not */
    bool full;
};

void buffer_finish(struct buffer *b); /* of one that grows; to be used no more */

/* Makes place for `len` more bytes and returns it, or NULL. They count as written. */
uint8_t *buffer_extend(struct buffer *b, size_t len);

void buffer_put(struct buffer *b, uint64_t value, unsigned bytes); /* little-endian */
void buffer_put_bytes(struct buffer *b, const void *bytes, size_t len);
void buffer_put_text(struct buffer *b, const char *text); /* without its NUL */
void buffer_put_zeros(struct buffer *b, size_t len);
void buffer_align(struct buffer *b, size_t unit); /* a power of two */

/* Overwrites or moves what was written before: nothing happens outside of it. */
void buffer_patch(struct buffer *b, size_t at, uint64_t value, unsigned bytes);
void buffer_insert(struct buffer *b, size_t at, const void *bytes, size_t len);

#endif
