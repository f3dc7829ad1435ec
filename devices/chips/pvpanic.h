/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PVPANIC_H
#define DEVICES_CHIPS_PVPANIC_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"

#define PVPANIC_SIZE 1 /* bytes */

/* QEMU's pvpanic: a register that a guest's kernel writes when it panics. Reads: supported bits. */
enum {
    PVPANIC_PANICKED = 1 << 0,     /* GUEST_PANIC */
    PVPANIC_CRASH_LOADED = 1 << 1, /* a crash kernel takes over: logged, nothing more */
};

/* NULL: out of memory. */
struct chip *pvpanic_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
