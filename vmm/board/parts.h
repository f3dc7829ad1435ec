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
 * Builds the board that parts_describe() planned. `terminal` is the template of all terminals.
 * Prints; -errno. board_destroy() is due in any case.
 */
int parts_create(struct board *board, const struct board_host *host,
                 const struct terminal_config *terminal);

#endif
