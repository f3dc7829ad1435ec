/* SPDX-License-Identifier: MIT */
#ifndef VMM_BOARD_CONSOLES_H
#define VMM_BOARD_CONSOLES_H

#include <stdbool.h>

struct board;
struct terminal;
struct terminal_config;

/* The back-ends of the serial port, the virtio console and its ports. */

/* Opens all that are configured; `host` is the template, without descriptors. Prints; -errno. */
int consoles_open(struct board *board, const struct terminal_config *host);

/* Drains the output of serial port and console, then drops the rest. Makes counters final. */
void consoles_close(struct board *board);
void consoles_destroy(struct board *board);

/* Calls fn(terminal) for each terminal. */
void consoles_each(const struct board *board, void (*fn)(struct terminal *terminal));

/* Was output of a port lost that a reader may still have wanted? */
bool consoles_lost_output(const struct board *board);

#endif
