/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_STATE_H
#define VMM_CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A machine's state while it is saved or loaded. A device describes its fields once, in one walk
 * that goes both ways:
 *
 *     static void pl031_state(struct chip *chip, struct state *s)
 *     {
 *         struct pl031 *rtc = container_of(chip, struct pl031, chip);
 *
 *         state_field(s, rtc, ahead);
 *         state_field(s, rtc, match);
 *     }
 *
 * Saved are sections, one for each device, and in them fields; both have names, so that an error
 * can say where it is:
 *
 *     section := u32 length  u16 version  u8 n  name[n]  field...    (length: of what follows it)
 *     field   := u8 type  u8 n  name[n]  value
 *
 * all little-endian. What is loaded is input: it may be damaged or made to do harm. A field whose
 * name, type or size is not the expected one is an error. The first error stays, every call after
 * it does nothing, and what was not loaded keeps its value; so a walk needs no checks of its own
 * but of values (state_fail()). One thread at a time.
 */
struct state {
    bool loading;
    uint8_t *bytes;   /* saving: ours; loading: the caller's */
    size_t size;      /* saving: allocated; loading: how many there are */
    size_t at;        /* the next byte */
    size_t section;   /* where the open section's contents begin */
    size_t end;       /* loading: where they end */
    const char *name; /* of the open section; NULL: none is */
    uint16_t version; /* of the open section, as it was saved */
    int error;        /* -errno of the first error, or 0 */
    char why[160];    /* and what it was, for people */
};

void state_begin_save(struct state *s);
/* `bytes` stay the caller's, unchanged, until state_finish(). */
void state_begin_load(struct state *s, const void *bytes, size_t size);
/* Frees what was saved. Returns the first error; loading: -EINVAL, too, if bytes are left over. */
int state_finish(struct state *s);

/*
 * Opens a section. Saving: with this version. Loading: it must have this name, and a version from
 * 1 to this one, which state_since() then tells apart.
 */
void state_section(struct state *s, const char *name, uint16_t version);
void state_end_section(struct state *s);

/* Does the section have what came with `version`? Always, when saving. */
bool state_since(const struct state *s, uint16_t version);

/* The name of a field is the name in the struct. */
#define state_field(s, p, f)       \
    _Generic((p)->f, uint8_t       \
             : state_u8, uint16_t  \
             : state_u16, uint32_t \
             : state_u32, uint64_t \
             : state_u64, bool     \
             : state_bool)((s), #f, &(p)->f)

void state_u8(struct state *s, const char *name, uint8_t *field);
void state_u16(struct state *s, const char *name, uint16_t *field);
void state_u32(struct state *s, const char *name, uint32_t *field);
void state_u64(struct state *s, const char *name, uint64_t *field);
void state_bool(struct state *s, const char *name, bool *field);

/* Bytes whose number is fixed; or *length of them, 0 to `max`. */
void state_bytes(struct state *s, const char *name, void *field, size_t size);
void state_data(struct state *s, const char *name, void *field, uint32_t *length, uint32_t max);

/* How many entries follow, 0 to `max`: returns `count` when saving, 0 after an error. */
uint32_t state_count(struct state *s, const char *name, uint32_t count, uint32_t max);

/* What is configuration, not state: loading fails unless the saved value is ours. */
void state_same(struct state *s, const char *name, uint64_t ours);

/* For a walk that finds a loaded value impossible. -EINVAL; prints nothing. */
void state_fail(struct state *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
