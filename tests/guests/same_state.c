/* SPDX-License-Identifier: MIT */
#include "same_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"

/*
 * Fields that change by themselves. They are found by their name in the section's bytes, with its
 * length before it and, in a list of registers, the register's number behind it.
 */
static const struct changing {
    const char *section; /* how its name begins */
    const char *name;
    uint64_t number;    /* little-endian */
    size_t number_size; /* bytes; 0: no number */
    size_t skip, size;  /* bytes from there on, and bytes that change */
} changing[] = {
    { "clock", "kvmclock", .size = 8 },
    { "clock", "realtime", .size = 8 },
    { "vcpu", "tsc", .size = 8 },
    { "vcpu", "deadline", .size = 8 }, /* one that has just passed becomes the TSC's value */
    /* After its size: PPR, which KVM derives from others when it needs it (SDM 3, 11.8.3.1). */
    { "vcpu", "lapic", .skip = 4 + 0xa0, .size = 4 },
    /* IRR, as a timer may expire meanwhile; the timer's current count. */
    { "vcpu", "lapic", .skip = 4 + 0x200, .size = 0x80 },
    { "vcpu", "lapic", .skip = 4 + 0x390, .size = 4 },
    { "clock", "counter", .size = 8 },
    { "clock", "physical", .size = 8 },
    /* aarch64: has a timer expired? CNTV_CTL_EL0, CNTP_CTL_EL0; after "value" and its size */
    { "vcpu", "id", 0x603000000013df19, 8, 11, 8 },
    { "vcpu", "id", 0x603000000013df11, 8, 11, 8 },
};

struct section {
    const uint8_t *bytes; /* version, length of the name, name, fields */
    size_t size;
};

/* Takes the first section off the state. */
static bool next_section(const uint8_t **at, size_t *left, struct section *ret)
{
    uint32_t size;

    if (*left < sizeof(size))
        return false;
    memcpy(&size, *at, sizeof(size));
    if (size > *left - sizeof(size))
        return false;
    *ret = (struct section){ *at + sizeof(size), size };
    *at += sizeof(size) + size;
    *left -= sizeof(size) + size;
    return true;
}

static bool is_called(const struct section *section, const char *prefix)
{
    return section->size > 3 + strlen(prefix) &&
           memcmp(section->bytes + 3, prefix, strlen(prefix)) == 0;
}

static void hide_field(uint8_t *bytes, size_t size, const struct changing *field)
{
    uint8_t wanted[64];
    size_t length = strlen(field->name), total = 1 + length + field->number_size;
    uint8_t *found;

    wanted[0] = (uint8_t)length;
    memcpy(wanted + 1, field->name, length);
    memcpy(wanted + 1 + length, &field->number, field->number_size);
    found = memmem(bytes, size, wanted, total);
    if (found && (size_t)(found - bytes) + total + field->skip + field->size <= size)
        memset(found + total + field->skip, 0, field->size);
}

/* A copy without what changes. */
static uint8_t *hidden(const struct section *section)
{
    uint8_t *copy = malloc(section->size + 1);

    if (!copy)
        abort();
    memcpy(copy, section->bytes, section->size);
    for (size_t i = 0; i < ARRAY_SIZE(changing); i++)
        if (is_called(section, changing[i].section))
            hide_field(copy, section->size, &changing[i]);
    return copy;
}

static bool same_section(const struct section *a, const struct section *b, size_t *ret_at)
{
    cleanup_free uint8_t *ours = hidden(a), *theirs = hidden(b);

    for (*ret_at = 0; *ret_at < a->size && *ret_at < b->size; ++*ret_at)
        if (ours[*ret_at] != theirs[*ret_at])
            return false;
    return a->size == b->size;
}

/* Up to 40 bytes before the difference and 8 from it on, as text. */
static void describe(const struct section *section, size_t at, char *where, size_t size)
{
    size_t first = at > 40 ? at - 40 : 0;
    int used = snprintf(where, size, "section %.*s differs at %zu, after ", section->bytes[2],
                        (const char *)section->bytes + 3, at);

    for (size_t i = first; i < section->size && i < at + 8 && used > 0 && (size_t)used < size; i++)
        used += snprintf(where + used, size - (size_t)used,
                         section->bytes[i] >= ' ' && section->bytes[i] < 127 ? "%c" : "\\%02x",
                         section->bytes[i]);
}

bool same_state(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, char *where,
                size_t size)
{
    struct section ours, theirs;
    size_t at;

    while (next_section(&a, &a_size, &ours) && next_section(&b, &b_size, &theirs))
        if (!same_section(&ours, &theirs, &at)) {
            describe(&theirs, at, where, size);
            return false;
        }
    snprintf(where, size, "the number of sections differs");
    return a_size == 0 && b_size == 0;
}
