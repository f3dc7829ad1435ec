/* SPDX-License-Identifier: MIT */
#include "vmm/core/state.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The type of a field; part of the format. */
enum state_type {
    STATE_U8 = 1,
    STATE_U16,
    STATE_U32,
    STATE_U64,
    STATE_BOOL,
    STATE_DATA,  /* u32 length, then that many bytes */
    STATE_COUNT, /* u32 */
    STATE_SAME,  /* u64 */
};

#define STATE_FIRST_SIZE 4096 /* bytes */
#define LENGTH_SIZE      sizeof(uint32_t)

void state_begin_save(struct state *s)
{
    *s = (struct state){ 0 };
}

void state_begin_load(struct state *s, const void *bytes, size_t size)
{
    *s = (struct state){ .loading = true, .bytes = (uint8_t *)bytes, .size = size };
}

int state_finish(struct state *s)
{
    if (s->loading && !s->error && s->at < s->size)
        state_fail(s, "%zu bytes are left over", s->size - s->at);
    if (!s->loading)
        free(s->bytes);
    s->bytes = NULL;
    return s->error;
}

static void state_set_error(struct state *s, int error, const char *fmt, va_list args)
{
    int used;

    if (s->error)
        return;
    s->error = -error;
    used = snprintf(s->why, sizeof(s->why), "%s%s", s->name ? s->name : "", s->name ? ": " : "");
    if (used >= 0 && (size_t)used < sizeof(s->why))
        vsnprintf(s->why + used, sizeof(s->why) - (size_t)used, fmt, args);
}

void state_fail(struct state *s, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    state_set_error(s, EINVAL, fmt, args);
    va_end(args);
}

static void state_out_of_memory(struct state *s, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    state_set_error(s, ENOMEM, fmt, args);
    va_end(args);
}

static void state_put(struct state *s, const void *bytes, size_t count)
{
    if (s->error || count == 0)
        return;
    if (count > s->size - s->at) {
        size_t size = s->size ? s->size : STATE_FIRST_SIZE;
        uint8_t *grown;

        while (size - s->at < count)
            size *= 2;
        grown = realloc(s->bytes, size);
        if (!grown) {
            state_out_of_memory(s, "out of memory");
            return;
        }
        s->bytes = grown;
        s->size = size;
    }
    memcpy(s->bytes + s->at, bytes, count);
    s->at += count;
}

/* The number of bytes left in the open section, or in the whole state if none is open. */
static size_t state_left(const struct state *s)
{
    return (s->name ? s->end : s->size) - s->at;
}

/* Consumes `count` loaded bytes. NULL on error. */
static const uint8_t *state_take(struct state *s, size_t count)
{
    const uint8_t *bytes = s->bytes + s->at;

    if (!s->error && count > state_left(s))
        state_fail(s, "ends too early");
    if (s->error)
        return NULL;
    s->at += count;
    return bytes;
}

static void state_put_name(struct state *s, const char *name)
{
    uint8_t length = (uint8_t)strlen(name);

    assert(strlen(name) <= UINT8_MAX);
    state_put(s, &length, sizeof(length));
    state_put(s, name, length);
}

static bool state_take_name(struct state *s, const char *name)
{
    const uint8_t *length = state_take(s, 1);
    const uint8_t *found = length ? state_take(s, *length) : NULL;

    if (found && (*length != strlen(name) || memcmp(found, name, *length) != 0))
        state_fail(s, "%s was expected, not %.*s", name, *length, (const char *)found);
    return !s->error;
}

void state_section(struct state *s, const char *name, uint16_t version)
{
    const uint8_t *head;
    uint32_t length = 0;
    uint16_t stored = htole16(version);

    assert(!s->name);
    s->version = version;
    if (!s->loading) {
        state_put(s, &length, sizeof(length)); /* filled in by state_end_section() */
        s->section = s->at;
        state_put(s, &stored, sizeof(stored));
        state_put_name(s, name);
        s->name = name;
        return;
    }

    head = state_take(s, LENGTH_SIZE);
    if (head) {
        memcpy(&length, head, sizeof(length));
        length = le32toh(length);
    }
    s->section = s->at;
    if (head && length > s->size - s->at)
        state_fail(s, "section %s ends too early", name);
    s->name = name;
    s->end = s->error ? s->at : s->at + length;
    head = state_take(s, sizeof(stored));
    if (head && state_take_name(s, name)) {
        memcpy(&stored, head, sizeof(stored));
        s->version = le16toh(stored);
        if (s->version == 0 || s->version > version)
            state_fail(s, "version %u was made by a newer minivmm; this one knows %u", s->version,
                       version);
    }
}

void state_end_section(struct state *s)
{
    uint32_t length = htole32((uint32_t)(s->at - s->section));

    assert(s->name);
    if (!s->error && !s->loading)
        memcpy(s->bytes + s->section - LENGTH_SIZE, &length, sizeof(length));
    else if (!s->error && s->at < s->end)
        state_fail(s, "%zu bytes are left over", s->end - s->at);
    s->name = NULL;
}

bool state_since(const struct state *s, uint16_t version)
{
    return s->version >= version;
}

/* Saves or checks a field's type and name. True if its value can be loaded. */
static bool state_head(struct state *s, enum state_type type, const char *name)
{
    uint8_t byte = (uint8_t)type;
    const uint8_t *found;

    assert(s->name);
    if (!s->loading) {
        state_put(s, &byte, sizeof(byte));
        state_put_name(s, name);
        return false;
    }
    found = state_take(s, sizeof(byte));
    if (!found || !state_take_name(s, name))
        return false;
    if (*found != byte)
        state_fail(s, "%s: type %u was expected, not %u", name, byte, *found);
    return !s->error;
}

/* A field of `size` bytes at `little`, in little-endian order. True: it was loaded. */
static bool state_number(struct state *s, enum state_type type, const char *name, void *little,
                         size_t size)
{
    const uint8_t *value;

    if (!state_head(s, type, name)) {
        if (!s->loading)
            state_put(s, little, size);
        return false;
    }
    value = state_take(s, size);
    if (value)
        memcpy(little, value, size);
    return value;
}

void state_u8(struct state *s, const char *name, uint8_t *field)
{
    state_number(s, STATE_U8, name, field, sizeof(*field));
}

void state_u16(struct state *s, const char *name, uint16_t *field)
{
    uint16_t little = htole16(*field);

    if (state_number(s, STATE_U16, name, &little, sizeof(little)))
        *field = le16toh(little);
}

void state_u32(struct state *s, const char *name, uint32_t *field)
{
    uint32_t little = htole32(*field);

    if (state_number(s, STATE_U32, name, &little, sizeof(little)))
        *field = le32toh(little);
}

void state_u64(struct state *s, const char *name, uint64_t *field)
{
    uint64_t little = htole64(*field);

    if (state_number(s, STATE_U64, name, &little, sizeof(little)))
        *field = le64toh(little);
}

void state_bool(struct state *s, const char *name, bool *field)
{
    uint8_t byte = *field;

    if (!state_number(s, STATE_BOOL, name, &byte, sizeof(byte)))
        return;
    if (byte > 1)
        state_fail(s, "%s: neither true nor false", name);
    else
        *field = byte;
}

void state_data(struct state *s, const char *name, void *field, uint32_t *length, uint32_t max)
{
    uint32_t little = htole32(*length);
    const uint8_t *value;

    if (!state_number(s, STATE_DATA, name, &little, sizeof(little))) {
        if (!s->loading)
            state_put(s, field, *length);
        return;
    }
    if (le32toh(little) > max) {
        state_fail(s, "%s: %u bytes, at most %u", name, le32toh(little), max);
        return;
    }
    value = state_take(s, le32toh(little));
    if (!value)
        return;
    *length = le32toh(little);
    memcpy(field, value, *length);
}

void state_bytes(struct state *s, const char *name, void *field, size_t size)
{
    uint32_t length = (uint32_t)size;

    state_data(s, name, field, &length, length);
    if (length != size)
        state_fail(s, "%s: %u bytes, not %zu", name, length, size);
}

uint32_t state_count(struct state *s, const char *name, uint32_t count, uint32_t max)
{
    uint32_t little = htole32(count);

    if (!state_number(s, STATE_COUNT, name, &little, sizeof(little)))
        return s->loading || s->error ? 0 : count;
    if (le32toh(little) > max)
        state_fail(s, "%s: %u, at most %u", name, le32toh(little), max);
    return s->error ? 0 : le32toh(little);
}

static int state_next_section(struct state *s, struct state_item *ret)
{
    const uint8_t *head = state_take(s, LENGTH_SIZE + sizeof(uint16_t) + 1);
    uint32_t length;
    uint16_t version;

    if (!head)
        return s->error;
    memcpy(&length, head, sizeof(length));
    memcpy(&version, head + LENGTH_SIZE, sizeof(version));
    s->end = (size_t)(head - s->bytes) + LENGTH_SIZE + le32toh(length);
    s->name = "section";
    if (s->end > s->size || s->end < s->at)
        state_fail(s, "ends too early");
    *ret = (struct state_item){ .section = true,
                                .name_length = head[LENGTH_SIZE + sizeof(version)],
                                .value = le16toh(version) };
    ret->name = (const char *)state_take(s, ret->name_length);
    return s->error ? s->error : 1;
}

/* The size of a field's value; of STATE_DATA that of its length. 0: unknown. */
static size_t state_value_size(uint8_t type)
{
    switch (type) {
    case STATE_U8:
    case STATE_BOOL:
        return 1;
    case STATE_U16:
        return 2;
    case STATE_U32:
    case STATE_DATA:
    case STATE_COUNT:
        return 4;
    case STATE_U64:
    case STATE_SAME:
        return 8;
    }
    return 0;
}

int state_next(struct state *s, struct state_item *ret)
{
    const uint8_t *head, *value;
    uint64_t little = 0;
    size_t size;

    if (s->error)
        return s->error;
    if (s->name && s->at == s->end)
        s->name = NULL;
    if (!s->name)
        return s->at == s->size ? 0 : state_next_section(s, ret);
    head = state_take(s, 2);
    *ret = (struct state_item){ .name_length = head ? head[1] : 0 };
    ret->name = (const char *)state_take(s, ret->name_length);
    size = head ? state_value_size(*head) : 0;
    if (size == 0)
        state_fail(s, "a field of an unknown type");
    value = state_take(s, size);
    if (!value)
        return s->error;
    memcpy(&little, value, size);
    ret->value = le64toh(little);
    if (*head == STATE_DATA) {
        ret->size = (uint32_t)ret->value;
        ret->bytes = state_take(s, ret->size);
    }
    return s->error ? s->error : 1;
}

void state_same(struct state *s, const char *name, uint64_t ours)
{
    uint64_t little = htole64(ours);

    if (state_number(s, STATE_SAME, name, &little, sizeof(little)) && le64toh(little) != ours)
        state_fail(s, "%s is %llu here, and was %llu", name, (unsigned long long)ours,
                   (unsigned long long)le64toh(little));
}
