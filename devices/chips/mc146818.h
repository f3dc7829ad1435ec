/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_MC146818_H
#define DEVICES_CHIPS_MC146818_H

#include "devices/chips/chip.h"

#define MC146818_SIZE    2    /* ports: index and data */
#define MC146818_CENTURY 0x32 /* register of the century, as the FADT says */

/*
 * A PC's real-time clock with 128 bytes of registers and RAM. It starts with the host's time in
 * UTC, and the guest may set it. There are no interrupts: alarm and periodic rate have no function.
 */
struct chip *mc146818_create(const char *name, uint64_t base);

#endif
