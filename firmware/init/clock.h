/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_CLOCK_H
#define FIRMWARE_INIT_CLOCK_H

struct message_sink;

/*
 * Sets the guest's clock: asks the supervisor for the host's time. The guest is then ahead of the
 * host by less than question and answer took, which is milliseconds at most, and never behind it:
 * to make(1), a file that the host has just written must not be from the future. Sends a note on
 * failure.
 */
void clock_set(const struct message_sink *sink);

#endif
