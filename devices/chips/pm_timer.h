/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CHIPS_PM_TIMER_H
#define DEVICES_CHIPS_PM_TIMER_H

#include "devices/chips/chip.h"

#define PM_TIMER_SIZE 4       /* bytes: one register */
#define PM_TIMER_HZ   3579545 /* ACPI 6.3, 4.8.2.1 */

/*
 * The ACPI power management timer: a free-running counter of 32 bits, by which a guest without a
 * paravirtual clock measures its TSC. Its interrupt does not exist. Writes are ignored.
 */
struct chip *pm_timer_create(const char *name, uint64_t base);

#endif
