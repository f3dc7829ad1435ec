/* SPDX-License-Identifier: MIT */
#ifndef VMM_BOARD_PARTS_H
#define VMM_BOARD_PARTS_H

struct board;

/* The one list of configurable parts: it is walked to place them, and again to create them. */

/* Gives each its name, address and interrupt. Prints; -errno. */
int parts_place(struct board *board);

/* Creates each at its place. Prints; -errno. */
int parts_create(struct board *board);

#endif
