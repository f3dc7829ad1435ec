/* SPDX-License-Identifier: MIT */
#ifndef VMM_BOARD_PARTS_H
#define VMM_BOARD_PARTS_H

struct board;

/*
 * The devices that a configuration asks for. One table lists their kinds, and is used both to place
 * and to create them.
 */

/* Gives each device a name, address and interrupt. Prints; -errno. */
int parts_place(struct board *board);

/* Creates each device at its place. Prints; -errno. */
int parts_create(struct board *board);

#endif
