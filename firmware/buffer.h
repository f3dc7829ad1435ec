/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_BUFFER_H
#define FIRMWARE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A byte buffer to append to, of fixed size or growing. A write that does not fit is dropped and
 * sets `full`, so a writer needs to check only once, at its end.
 */
struct buffer {
    uint8_t *data; /* fixed size: owned by the caller; growing: from malloc() */
    size_t size;   /* bytes */
    size_t used;   /* bytes */
    size_t limit;  /* bytes it may grow to; 0: fixed size */
    bool full;     /* a write was dropped; later ones are dropped, too */
};

/* Frees a growing buffer and empties it. */
void buffer_finish(struct buffer *b);

/*
 * Appends `len` uninitialized bytes and returns a pointer to them, valid until the next append;
 * NULL if they do not fit.
 */
uint8_t *buffer_extend(struct buffer *b, size_t len);

void buffer_put(struct buffer *b, uint64_t value, unsigned bytes); /* little-endian */
void buffer_put_bytes(struct buffer *b, const void *bytes, size_t len);
void buffer_put_text(struct buffer *b, const char *text); /* without its NUL */
void buffer_put_zeros(struct buffer *b, size_t len);
void buffer_align(struct buffer *b, size_t unit); /* appends zeros; `unit`: a power of two */

/*
 * Overwrite bytes at, or insert bytes before, offset `at`. They do nothing if `at`, or the last
 * byte to overwrite, is after the bytes written so far.
 */
void buffer_patch(struct buffer *b, size_t at, uint64_t value, unsigned bytes);
void buffer_insert(struct buffer *b, size_t at, const void *bytes, size_t len);

#endif
