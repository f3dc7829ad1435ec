/* SPDX-License-Identifier: MIT */
#include "devices/chips/i8042.h"

#include "vmm/core/base.h"

#define I8042_PULSE_RESET 0xfe

struct i8042 {
    struct chip chip;
    struct event_sink sink;
};

static uint8_t i8042_read(struct chip *chip, unsigned reg)
{
    return 0;
}

static void i8042_write(struct chip *chip, unsigned reg, uint8_t value)
{
    const struct i8042 *i8042 = container_of(chip, struct i8042, chip);

    if (value == I8042_PULSE_RESET)
        event_report(&i8042->sink, GUEST_RESET, 0);
}

static const struct chip_ops i8042_ops = {
    .read = i8042_read,
    .write = i8042_write,
};

struct chip *i8042_create(const char *name, uint64_t base, const struct event_sink *sink)
{
    struct i8042 *i8042 = chip_create(sizeof(*i8042), &i8042_ops, chip_no_state, name, base, 1);

    if (!i8042)
        return NULL;
    i8042->sink = *sink;
    return &i8042->chip;
}
