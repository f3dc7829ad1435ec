/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_I8042_H
#define DEVICES_CHIPS_I8042_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"

/*
 * Of the keyboard controller only the line that resets the machine: the command port, 0x64 on a
 * PC. Its status says that nothing is there to be read and nothing to be waited for.
 */
struct chip *i8042_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
