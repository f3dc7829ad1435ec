/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_IRQ_H
#define VMM_CORE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

/* An input pin of the interrupt controller. Passed by value. set() may be called on any thread. */
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
 * How a virtio device notifies, and is notified by, the guest without an exit to user space; and
 * the shadow page, by which register reads do not exit. Passed by value. All operations: any
 * thread, 0 or -errno, print nothing.
 */
struct notifiers {
    /* Assigns or deassigns an irqfd: each signal of `eventfd` raises an edge on `gsi`. */
    int (*irqfd)(void *vm, uint32_t gsi, int eventfd, bool assign);
    /* Assigns or deassigns an ioeventfd: a 32-bit write of `value` to `addr` signals `eventfd`. */
    int (*ioeventfd)(void *vm, uint64_t addr, uint32_t value, int eventfd, bool assign);
    /* Maps the shadow page read-only into the guest: register reads no longer exit. */
    int (*map_shadow)(void *vm);
    /* Cleans the cache line of a word just written there: a guest may read it uncached. */
    void (*clean_shadow)(const void *word);
    void *vm;
};

#endif
