/* SPDX-License-Identifier: MIT */
#include "devices/chips/pvpanic.h"

#include <stdbool.h>

#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

struct pvpanic {
    struct chip chip;
    struct event_sink sink;
    bool crash_logged; /* atomic: a crash is logged once per boot */
    unsigned warnings; /* of log_guest(), which limits them across boots */
};

static uint8_t pvpanic_read(struct chip *chip, unsigned reg)
{
    return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(struct chip *chip, unsigned reg, uint8_t value)
{
    struct pvpanic *pvpanic = container_of(chip, struct pvpanic, chip);

    if (value & PVPANIC_PANICKED)
        event_report(&pvpanic->sink, GUEST_PANIC, 0);
    else if (value & PVPANIC_CRASH_LOADED &&
             !__atomic_exchange_n(&pvpanic->crash_logged, true, __ATOMIC_RELAXED))
        log_guest(&pvpanic->warnings, "%s: the guest crashed and starts its crash kernel",
                  chip->device.name);
}

static void pvpanic_reset(struct chip *chip)
{
    struct pvpanic *pvpanic = container_of(chip, struct pvpanic, chip);

    __atomic_store_n(&pvpanic->crash_logged, false, __ATOMIC_RELAXED);
}

static void pvpanic_state(struct chip *chip, struct state *s)
{
    struct pvpanic *pvpanic = container_of(chip, struct pvpanic, chip);

    state_field(s, pvpanic, crash_logged);
}

static const struct chip_ops pvpanic_ops = {
    .read = pvpanic_read,
    .write = pvpanic_write,
    .reset = pvpanic_reset,
};

struct chip *pvpanic_create(const char *name, uint64_t base, const struct event_sink *sink)
{
    struct pvpanic *pvpanic =
        chip_create(sizeof(*pvpanic), &pvpanic_ops, pvpanic_state, name, base, PVPANIC_SIZE);

    if (!pvpanic)
        return NULL;
    pvpanic->sink = *sink;
    return &pvpanic->chip;
}
