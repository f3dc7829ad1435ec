/* SPDX-License-Identifier: MIT */
#include "firmware/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/core/base.h"

#define BUFFER_MIN_GROWN 4096 /* bytes */

/* Doubles the size until `len` more bytes fit, up to the limit. */
static bool buffer_grow(struct buffer *b, size_t len)
{
    size_t size = b->size < BUFFER_MIN_GROWN ? BUFFER_MIN_GROWN : b->size;
    uint8_t *data;

    if (b->used > b->limit || len > b->limit - b->used)
        return false;
    while (size - b->used < len && size <= SIZE_MAX / 2)
        size *= 2;
    if (size > b->limit)
        size = b->limit;
    data = realloc(b->data, size);
    if (!data)
        return false;
    b->data = data;
    b->size = size;
    return true;
}

uint8_t *buffer_extend(struct buffer *b, size_t len)
{
    if (b->full || (len > b->size - b->used && !buffer_grow(b, len))) {
        b->full = true;
        return NULL;
    }
    b->used += len;
    return b->data + b->used - len;
}

void buffer_finish(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){ 0 };
}

static void buffer_store(uint8_t *dst, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        dst[i] = (uint8_t)(value >> (8 * i));
}

void buffer_put(struct buffer *b, uint64_t value, unsigned bytes)
{
    uint8_t *dst = buffer_extend(b, bytes);

    if (dst)
        buffer_store(dst, value, bytes);
}

void buffer_put_bytes(struct buffer *b, const void *bytes, size_t len)
{
    uint8_t *dst = buffer_extend(b, len);

    if (dst)
        memcpy(dst, bytes, len);
}

void buffer_put_text(struct buffer *b, const char *text)
{
    buffer_put_bytes(b, text, strlen(text));
}

void buffer_put_zeros(struct buffer *b, size_t len)
{
    uint8_t *dst = buffer_extend(b, len);

    if (dst)
        memset(dst, 0, len);
}

void buffer_align(struct buffer *b, size_t unit)
{
    buffer_put_zeros(b, align_up(b->used, unit) - b->used);
}

void buffer_patch(struct buffer *b, size_t at, uint64_t value, unsigned bytes)
{
    if (at <= b->used && bytes <= b->used - at)
        buffer_store(b->data + at, value, bytes);
}

void buffer_insert(struct buffer *b, size_t at, const void *bytes, size_t len)
{
    size_t tail = b->used - at;

    if (at > b->used || !buffer_extend(b, len))
        return;
    memmove(b->data + at + len, b->data + at, tail);
    memcpy(b->data + at, bytes, len);
}
