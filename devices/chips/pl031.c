/* SPDX-License-Identifier: MIT */
#include "devices/chips/pl031.h"

#include <time.h>

#include "vmm/core/base.h"
#include "vmm/core/state.h"

#define PL031_PART 0x00041031

enum { /* Arm DDI 0224, 3.2 */
       REG_DATA = 0x00,
       REG_MATCH = 0x04,
       REG_LOAD = 0x08,
       REG_CONTROL = 0x0c, /* always 1: enabled */
};

/* No lock: both fields are accessed atomically, and independent of each other. */
struct pl031 {
    struct chip chip;
    uint32_t ahead; /* of the host's clock, in seconds, modulo 2^32 */
    uint32_t match;
};

static uint32_t pl031_read(struct chip *chip, unsigned reg)
{
    const struct pl031 *rtc = container_of(chip, struct pl031, chip);

    switch (reg) {
    case REG_DATA:
    case REG_LOAD:
        return (uint32_t)time(NULL) + __atomic_load_n(&rtc->ahead, __ATOMIC_RELAXED);
    case REG_MATCH:
        return __atomic_load_n(&rtc->match, __ATOMIC_RELAXED);
    case REG_CONTROL:
        return 1;
    default:
        return reg >= PRIMECELL_ID ? primecell_id(PL031_PART, reg) : 0;
    }
}

static void pl031_write(struct chip *chip, unsigned reg, uint32_t value)
{
    struct pl031 *rtc = container_of(chip, struct pl031, chip);

    if (reg == REG_LOAD)
        __atomic_store_n(&rtc->ahead, value - (uint32_t)time(NULL), __ATOMIC_RELAXED);
    else if (reg == REG_MATCH)
        __atomic_store_n(&rtc->match, value, __ATOMIC_RELAXED);
}

static void pl031_reset(struct chip *chip)
{
    struct pl031 *rtc = container_of(chip, struct pl031, chip);

    __atomic_store_n(&rtc->ahead, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&rtc->match, 0, __ATOMIC_RELAXED);
}

/* Saved relative to the host's clock: the guest's clock goes on while nothing runs. */
static void pl031_state(struct chip *chip, struct state *s)
{
    struct pl031 *rtc = container_of(chip, struct pl031, chip);

    state_field(s, rtc, ahead);
    state_field(s, rtc, match);
}

static const struct chip_ops pl031_ops = {
    .read32 = pl031_read,
    .write32 = pl031_write,
    .reset = pl031_reset,
};

struct chip *pl031_create(const char *name, uint64_t base)
{
    struct pl031 *rtc = chip_create(sizeof(*rtc), &pl031_ops, pl031_state, name, base, PL031_SIZE);

    return rtc ? &rtc->chip : NULL;
}
