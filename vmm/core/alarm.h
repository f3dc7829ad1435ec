/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_ALARM_H
#define VMM_CORE_ALARM_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/loop.h"

/*
 * A one-shot timer on a loop: ready() is called once after each alarm_set() that expires. All
 * functions on the loop's thread.
 */

/* Opens a timerfd and adds it to the loop. On error prints, sets alarm->fd to -1; -errno. */
int alarm_open(struct watch *alarm, struct loop *loop,
               void (*ready)(struct watch *watch, short revents));
void alarm_close(struct watch *alarm, struct loop *loop); /* accepts a zeroed or closed one */

void alarm_set(struct watch *alarm, uint64_t ms); /* replaces the last setting; 0: disarm */

/* Reads the timerfd. ready() must check it: the alarm may have been set again since poll(). */
bool alarm_expired(struct watch *alarm);

#endif
