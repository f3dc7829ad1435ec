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
struct notifiers {
    /* irqfd: while assigned, each signal of `eventfd` is an edge on `gsi`. */
    int (*irqfd)(void *vm, uint32_t gsi, int eventfd, bool assign);
    /* ioeventfd: while assigned, a 32-bit write of `value` to `addr` only signals `eventfd`. */
    int (*ioeventfd)(void *vm, uint64_t addr, uint32_t value, int eventfd, bool assign);
    /* Maps the shadow page of the registers read-only into the guest: reads no longer exit. */
    int (*map_shadow)(void *vm);
    /* Cleans the cache line of a word just written there: guests may read past the caches. */
    void (*clean_shadow)(const void *word);
    void *vm;
};

#endif
