/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_DEBUG_EXIT_H
#define DEVICES_CHIPS_DEBUG_EXIT_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"

#define DEBUG_EXIT_SIZE 8 /* bytes, so that a store of any width hits it */

/* Whatever is written to the first byte ends the machine with that exit code. */
struct chip *debug_exit_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
