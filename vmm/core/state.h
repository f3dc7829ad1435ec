/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_STATE_H
#define VMM_CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A machine's state while it is saved or loaded. Each device describes its fields once, in one
 * function that both saves and loads them:
 *
 *     static void pl031_state(struct chip *chip, struct state *s)
 *     {
 *         struct pl031 *rtc = container_of(chip, struct pl031, chip);
 *
 *         state_field(s, rtc, ahead);
 *         state_field(s, rtc, match);
 *     }
 *
 * The format is a sequence of sections, one per device, each a sequence of fields. Both have
 * names, for error messages:
 *
 *     section := u32 length  u16 version  u8 n  name[n]  field...    (length: of what follows it)
 *     field   := u8 type  u8 n  name[n]  value
 *
 * all little-endian. A loaded state is untrusted: it may be damaged or malicious. A field with an
 * unexpected name, type or size is an error. After the first error all calls do nothing, and
 * fields not yet loaded keep their values; so a device only has to check values (state_fail()).
 * One thread at a time.
 */
struct state {
    bool loading;
    uint8_t *bytes;   /* saving: owned; loading: the caller's */
    size_t size;      /* saving: allocated bytes; loading: bytes to load */
    size_t at;        /* offset of the next byte */
    size_t section;   /* offset of the open section's contents */
    size_t end;       /* loading: offset of their end */
    const char *name; /* of the open section; NULL: no section is open */
    uint16_t version; /* of the open section, as it was saved */
    int error;        /* -errno of the first error, or 0 */
    char why[160];    /* message of that error */
};

void state_begin_save(struct state *s);
/* `bytes` belong to the caller, and must stay unchanged until state_finish(). */
void state_begin_load(struct state *s, const void *bytes, size_t size);
/* Frees the saved bytes. Returns the first error; loading: -EINVAL also if bytes are left over. */
int state_finish(struct state *s);

/*
 * Opens a section. Saving: writes it with this version. Loading: expects this name, and a version
 * from 1 to this one; state_since() tells which fields it has.
 */
void state_section(struct state *s, const char *name, uint16_t version);
void state_end_section(struct state *s);

/* Does the open section have the fields added in `version`? Always true when saving. */
bool state_since(const struct state *s, uint16_t version);

/* A field, named as in its struct. */
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

/* A fixed number of bytes; or *length of them, from 0 to `max`. */
void state_bytes(struct state *s, const char *name, void *field, size_t size);
void state_data(struct state *s, const char *name, void *field, uint32_t *length, uint32_t max);

/* The number of entries that follow, from 0 to `max`. Returns it: saved or loaded; 0 on error. */
uint32_t state_count(struct state *s, const char *name, uint32_t count, uint32_t max);

/* A section or a field of a state being loaded, as it is stored. */
struct state_item {
    bool section;
    const char *name; /* not terminated */
    uint8_t name_length;
    uint64_t value;       /* a number; of a section: its version */
    const uint8_t *bytes; /* NULL: a number */
    uint32_t size;
};

/*
 * Steps through a state without knowledge of what is in it, after state_begin_load() or after whole
 * sections. 1; 0: the end; -EINVAL.
 */
int state_next(struct state *s, struct state_item *ret);

/* Configuration rather than state: loading fails unless the saved value equals `ours`. */
void state_same(struct state *s, const char *name, uint64_t ours);

/* Sets the error -EINVAL, for an invalid value that was loaded. Prints nothing. */
void state_fail(struct state *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
