/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_PUMP_H
#define FIRMWARE_INIT_PUMP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Copies bytes from one descriptor to another without blocking: from a console port to the
 * command's pipe, or back. A port can be opened only once, so the command cannot have it itself.
 * Closes both descriptors at the end of the input, or when the output has no reader any more.
 */
struct pump {
    int from, to;      /* non-blocking; -1: the pump has ended */
    bool ended;        /* the input is at its end */
    size_t start, end; /* of the bytes not yet written */
    char bytes[64 * 1024];
};

void pump_init(struct pump *pump, int from, int to);
void pump_close(struct pump *pump);

/*
 * Waits until what is in the input now is in the output, and then copies to /dev/null: for input
 * whose writers live on.
 */
void pump_set_aside(struct pump *pump);

/* Fills in what to poll() for; then moves bytes according to the result. */
void pump_prepare(const struct pump *pump, struct pollfd set[2]);
void pump_run(struct pump *pump, const struct pollfd set[2]);

#endif
