/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "devices/chip.h"
#include "vmm/event.h"

/*
 * Of the keyboard controller only the line that resets the machine: the command port, 0x64 on a
 * PC. Its status says that nothing is there to be read and nothing to be waited for.
 */
struct chip *i8042_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
