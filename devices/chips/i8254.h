/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_I8254_H
#define DEVICES_CHIPS_I8254_H

#include "devices/chips/chip.h"

#define I8254_SIZE 0x22    /* ports from the first counter to system control port B */
#define I8254_HZ   1193182 /* of each counter */

/*
 * The three counters of a PC's interval timer at `base` (0x40), and what concerns the third of them
 * in system control port B at `base` + 0x21 (0x61): its gate and its output. Guests measure their
 * TSC by it. Counter 0 raises no interrupt, counter 2 makes no sound. The ports between are unused.
 */
struct chip *i8254_create(const char *name, uint64_t base);

#endif
