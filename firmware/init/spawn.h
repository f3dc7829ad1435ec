/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_SPAWN_H
#define FIRMWARE_INIT_SPAWN_H

#include <stdbool.h>

struct job;
struct message_sink;

#define SPAWN_NOT_EXECUTABLE 126
#define SPAWN_NOT_FOUND      127

/*
 * Starts the job's command in a session of its own, with `streams` as its standard descriptors;
 * `tty` is its controlling terminal, -1: none. Returns the process id, or sends "failed" or "error"
 * and returns 0.
 */
int spawn_command(const struct message_sink *sink, const struct job *job, const int streams[3],
                  int tty);

#endif
