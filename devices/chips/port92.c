/* SPDX-License-Identifier: MIT */
#include "devices/chips/port92.h"

#include "vmm/core/base.h"
#include "vmm/core/state.h"

enum { FAST_RESET = 1 << 0, A20_GATE = 1 << 1 };

struct port92 {
    struct chip chip;
    struct event_sink sink;
    uint8_t value; /* as read: without FAST_RESET; atomic */
};

static uint8_t port92_read(struct chip *chip, unsigned reg)
{
    const struct port92 *port = container_of(chip, struct port92, chip);

    return __atomic_load_n(&port->value, __ATOMIC_RELAXED);
}

static void port92_write(struct chip *chip, unsigned reg, uint8_t value)
{
    struct port92 *port = container_of(chip, struct port92, chip);

    __atomic_store_n(&port->value, value & ~FAST_RESET, __ATOMIC_RELAXED);
    if (value & FAST_RESET)
        event_report(&port->sink, GUEST_RESET, 0);
}

static void port92_reset(struct chip *chip)
{
    struct port92 *port = container_of(chip, struct port92, chip);

    __atomic_store_n(&port->value, A20_GATE, __ATOMIC_RELAXED);
}

static void port92_state(struct chip *chip, struct state *s)
{
    struct port92 *port = container_of(chip, struct port92, chip);

    state_field(s, port, value);
    if (port->value & FAST_RESET)
        state_fail(s, "value: %#x requests a reset", port->value);
}

static const struct chip_ops port92_ops = {
    .read = port92_read,
    .write = port92_write,
    .reset = port92_reset,
};

struct chip *port92_create(const char *name, uint64_t base, const struct event_sink *sink)
{
    struct port92 *port = chip_create(sizeof(*port), &port92_ops, port92_state, name, base, 1);

    if (!port)
        return NULL;
    port->sink = *sink;
    port->value = A20_GATE;
    return &port->chip;
}
