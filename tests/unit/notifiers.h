/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_NOTIFIERS_H
#define TESTS_UNIT_NOTIFIERS_H

#include <stddef.h>

#include "vmm/core/irq.h"

/* A KVM that accepts everything and does nothing, for tests that act as the guest. */

static inline int no_irqfd(void *vm, uint32_t gsi, int eventfd, bool assign)
{
    return 0;
}

static inline int no_ioeventfd(void *vm, uint64_t addr, uint32_t value, int eventfd, bool assign)
{
    return 0;
}

static inline int no_map_shadow(void *vm)
{
    return 0;
}

static inline void no_clean_shadow(const void *word)
{
}

static const struct notifiers no_notifiers = { no_irqfd, no_ioeventfd, no_map_shadow,
                                               no_clean_shadow, NULL };

#endif
