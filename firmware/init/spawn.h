/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_SPAWN_H
#define FIRMWARE_INIT_SPAWN_H

#include <stdbool.h>

struct orders;
struct voice;

#define COMMAND_NOT_EXECUTABLE 126
#define COMMAND_NOT_FOUND      127

/*
 * Starts the ordered command in a session of its own; `tty`, if not -1, is its controlling
 * terminal. Returns its process id, or 0 after having told the host why it could not be executed.
 */
int command_start(const struct voice *voice, const struct orders *orders, const int streams[3],
                  int tty);

#endif
