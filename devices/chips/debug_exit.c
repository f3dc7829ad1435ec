/* SPDX-License-Identifier: MIT */
#include "devices/chips/debug_exit.h"

#include "vmm/core/base.h"

struct debug_exit {
    struct chip chip;
    struct event_sink sink;
};

static uint8_t debug_exit_read(struct chip *chip, unsigned reg)
{
    return 0;
}

static void debug_exit_write(struct chip *chip, unsigned reg, uint8_t value)
{
    const struct debug_exit *debug_exit = container_of(chip, struct debug_exit, chip);

    if (reg == 0)
        event_report(&debug_exit->sink, GUEST_EXIT, value);
}

static const struct chip_ops debug_exit_ops = {
    .read = debug_exit_read,
    .write = debug_exit_write,
};

struct chip *debug_exit_create(const char *name, uint64_t base, const struct event_sink *sink)
{
    struct debug_exit *debug_exit = chip_create(sizeof(*debug_exit), &debug_exit_ops, chip_no_state,
                                                name, base, DEBUG_EXIT_SIZE);

    if (!debug_exit)
        return NULL;
    debug_exit->sink = *sink;
    return &debug_exit->chip;
}
