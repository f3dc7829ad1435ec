/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PL031_H
#define DEVICES_CHIPS_PL031_H

#include "devices/chips/chip.h"
#include "devices/chips/primecell.h"

#define PL031_SIZE PRIMECELL_SIZE

/*
 * A clock that counts the seconds since 1970, from the host's time on. It may be set. There is no
 * alarm: what it would be compared with reads as written.
 */
struct chip *pl031_create(const char *name, uint64_t base);

#endif
