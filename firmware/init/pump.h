/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_PUMP_H
#define FIRMWARE_INIT_PUMP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Carries bytes from one descriptor to another, without ever waiting: from a console port to the
 * command's pipe, or back. A port can be opened only once, so the command cannot have it itself.
 * At the end of its input, or when nobody reads its output any more, both ends are closed.
 */
struct pump {
    int from, to; /* non-blocking; -1: the pump has ended */
    bool ended;   /* nothing more comes in */
    size_t start, end;
    char bytes[64 * 1024];
};

void pump_init(struct pump *pump, int from, int to);
void pump_close(struct pump *pump);

/* What to wait for, and what to do then. */
void pump_prepare(const struct pump *pump, struct pollfd set[2]);
void pump_run(struct pump *pump, const struct pollfd set[2]);

#endif
