/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PL031_H
#define DEVICES_CHIPS_PL031_H

#include "devices/chips/chip.h"
#include "devices/chips/primecell.h"

#define PL031_SIZE PRIMECELL_SIZE

/*
 * Arm's real-time clock: counts the seconds since 1970. It starts with the host's time, and the
 * guest may set it. There is no alarm interrupt: the match register has no function.
 */
struct chip *pl031_create(const char *name, uint64_t base);

#endif
