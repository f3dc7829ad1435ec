/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PORT92_H
#define DEVICES_CHIPS_PORT92_H

#include "devices/chips/chip.h"
#include "vmm/core/event.h"

/*
 * System control port A of a PC, 0x92: bit 0 resets the machine. The A20 gate, bit 1, keeps what is
 * written and has no effect: A20 is always enabled.
 */
struct chip *port92_create(const char *name, uint64_t base, const struct event_sink *sink);

#endif
