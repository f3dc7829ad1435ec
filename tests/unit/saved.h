/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_SAVED_H
#define TESTS_UNIT_SAVED_H

#include <check.h>
#include <errno.h>
#include <string.h>

#include "devices/virtio/virtio.h"
#include "vmm/core/base.h"
#include "vmm/core/device.h"
#include "vmm/core/state.h"

/* Saving, corrupting and loading the state of a paused device. */

/* A virtio device without its transport. */
struct saved_virtio {
    struct device device;
    struct virtio_device *virtio;
};

static inline void saved_virtio_state(struct device *dev, struct state *s)
{
    state_section(s, "virtio", 1);
    virtio_state(container_of(dev, struct saved_virtio, device)->virtio, s);
    state_end_section(s);
}

static inline struct saved_virtio saved_virtio(struct virtio_device *virtio)
{
    static const struct device_ops ops = { .state = saved_virtio_state };

    return (struct saved_virtio){ { .name = "virtio", .ops = &ops }, virtio };
}

static inline void saved_take(struct state *s, struct device *dev)
{
    state_begin_save(s);
    dev->ops->state(dev, s);
    ck_assert_str_eq(s->why, "");
}

/* Loads a saved state. `why` gets the error or ""; it has room for sizeof(s->why) bytes. */
static inline int saved_load(const struct state *saved, struct device *dev, char *why)
{
    struct state s;
    int error;

    state_begin_load(&s, saved->bytes, saved->at);
    dev->ops->state(dev, &s);
    error = state_finish(&s);
    strcpy(why, s.why);
    return error;
}

/* Returns the value of the last field called `name`. */
static inline uint8_t *saved_field(const struct state *saved, const char *name)
{
    size_t length = strlen(name);

    for (size_t at = saved->at - length - 1; at > 0; at--)
        if (saved->bytes[at] == length && memcmp(saved->bytes + at + 1, name, length) == 0)
            return saved->bytes + at + 1 + length;
    ck_abort_msg("no field %s", name);
}

static inline void saved_check_same(const struct state *a, const struct state *b)
{
    ck_assert_uint_eq(a->at, b->at);
    ck_assert_mem_eq(a->bytes, b->bytes, a->at);
}

/* Loads `dev`, which must then save the same bytes. Frees *saved. */
static inline void saved_restore(struct state *saved, struct device *dev)
{
    char why[sizeof(saved->why)];
    struct state again;

    saved_load(saved, dev, why);
    ck_assert_str_eq(why, "");
    saved_take(&again, dev);
    saved_check_same(saved, &again);
    state_finish(&again);
    state_finish(saved);
}

/* Saves `dev` and loads it with the field's first byte changed, which must fail with `why`. */
static inline void saved_check_refused(struct device *dev, const char *name, uint8_t value,
                                       const char *expected)
{
    char why[sizeof(((struct state *)0)->why)];
    struct state s;

    saved_take(&s, dev);
    *saved_field(&s, name) = value;
    ck_assert_int_eq(saved_load(&s, dev, why), -EINVAL);
    ck_assert_ptr_nonnull(strstr(why, expected));
    state_finish(&s);
}

#endif
