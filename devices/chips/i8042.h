/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_I8042_H
#define DEVICES_CHIPS_I8042_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"

/*
 * The command and status port of a keyboard controller, 0x64 on a PC. Its only function is the
 * command that resets the machine. The status is always 0: no data, and ready for commands.
 */
struct chip *i8042_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
