/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_ALARM_H
#define VMM_CORE_ALARM_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"

/* A time-out on a loop: its ready() is called once for each alarm_set() that ran out. */

/* Opens a timerfd and adds it to the loop. Prints; -errno, and the watch's fd is then -1. */
int alarm_open(struct watch *alarm, struct loop *loop,
               void (*ready)(struct watch *watch, short revents));
void alarm_close(struct watch *alarm, struct loop *loop); /* a zeroed or closed one, too */

void alarm_set(struct watch *alarm, uint64_t ms); /* from now, in place of before; 0: never */

/* For ready(), which is called for nothing where the alarm was set anew meanwhile. */
bool alarm_rang(struct watch *alarm);

#endif
