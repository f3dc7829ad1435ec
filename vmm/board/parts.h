/* SPDX-License-Identifier: MIT */
#ifndef VMM_BOARD_PARTS_H
#define VMM_BOARD_PARTS_H

struct board;
struct board_host;
struct config;
struct terminal_config;

/*
 * Plans and builds a board as a configuration asks for. One table lists the kinds of devices; it is
 * used both to place and to create them.
 */

/*
 * Fills in the hardware description: each device has a name, address and interrupt. Does not touch
 * the host. Prints; -errno. board_destroy() accepts the result.
 */
int parts_describe(struct board *board, const struct config *config);

/*
 * Starts the processes that serve user-mode NICs, of a board that parts_describe() planned. First
 * of all: they inherit nothing then, and start beside what follows. Prints; -errno.
 */
int parts_start(struct board *board);

/*
 * Builds the board after parts_start(). `terminal` is the template of all terminals.
 * Prints; -errno. board_destroy() is due in any case.
 */
int parts_create(struct board *board, const struct board_host *host,
                 const struct terminal_config *terminal);

/*
 * Waits for what parts_start() has started: last of all before the guest runs. Prints why it does
 * not; -errno.
 */
int parts_wait(struct board *board);

#endif
