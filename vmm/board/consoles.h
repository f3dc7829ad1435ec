/* SPDX-License-Identifier: MIT */
#ifndef VMM_BOARD_CONSOLES_H
#define VMM_BOARD_CONSOLES_H

#include <stdbool.h>

struct board;
struct terminal;
struct terminal_config;

/* The host's ends of the serial port, the virtio console and its ports. */

/* Opens those of the configuration, each like `host` but for its descriptors. Prints; -errno. */
int consoles_open(struct board *board, const struct terminal_config *host);

/* What the guest has said is out, or will be lost. Before their counters are read. */
void consoles_close(struct board *board);
void consoles_destroy(struct board *board);

/* Calls fn(terminal) for each there is. */
void consoles_each(const struct board *board, void (*fn)(struct terminal *terminal));

/* Of what ports said something could not be written, although there may be somebody to read it. */
bool consoles_lost_output(const struct board *board);

#endif
