/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_DEBUG_EXIT_H
#define DEVICES_CHIPS_DEBUG_EXIT_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"

#define DEBUG_EXIT_SIZE 8 /* bytes, so that stores of all widths lie within */

/* A register that ends the machine: a value written to its first byte is the exit status. */
struct chip *debug_exit_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
