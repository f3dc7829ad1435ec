/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PVPANIC_H
#define DEVICES_CHIPS_PVPANIC_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"

#define PVPANIC_SIZE 1 /* bytes */

/* A byte the guest's kernel writes when it panics; reads say which news it takes. */
enum {
    PVPANIC_PANICKED = 1 << 0,     /* GUEST_PANIC */
    PVPANIC_CRASH_LOADED = 1 << 1, /* a crash kernel takes over: only logged */
};

struct chip *pvpanic_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
