/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_IRQ_H
#define VMM_CORE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

/* One wire into the interrupt controller. A value: devices keep a copy, tests make their own. */
struct irq_line {
    void (*set)(void *chip, uint32_t pin, bool level);
    void *chip;
    uint32_t pin;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
    line->set(line->chip, line->pin, level);
}

/*
 * What connects a device to its guest without an exit to user space. The machine gives it to a
 * device as a value; tests make their own. Any thread. 0 or -errno; prints nothing.
 */
struct wiring {
    /* From now on each signal of `eventfd` is an edge on `pin`. */
    int (*interrupt)(void *vm, uint32_t pin, int eventfd);
    /* From now on a 32-bit write of `value` to `addr` signals `eventfd` and does nothing else. */
    int (*doorbell)(void *vm, uint64_t addr, uint32_t value, int eventfd);
    /* From now on the guest reads what is kept for it of registers without an exit. */
    int (*show)(void *vm);
    /* A word of those was just written: guests map registers so that they may read past caches. */
    void (*publish)(const void *word);
    void *vm;
};

#endif
