/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_JOB_READ_H
#define FIRMWARE_INIT_JOB_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The orders as the init wants them: strings are in the file's bytes. */
enum orders_list {
    ORDERS_MODULE,
    ORDERS_SHARE,
    ORDERS_GROUP,
    ORDERS_ENV,
    ORDERS_ARG,
    ORDERS_LISTS
};

struct orders {
    const char **lists[ORDERS_LISTS]; /* each ends with NULL */
    const char *hostname, *network;   /* NULL where nothing was ordered */
    const char *tty, *winsize;
    const char *streams[3]; /* "null" unless ordered */
    const char *cwd;        /* "/" unless ordered */
    uint32_t uid, gid;
};

/* Of room that orders_read() needs for `size` bytes. */
size_t orders_room(const char *bytes, size_t size);

/*
 * Reads `size` bytes, the last of which is a NUL. `room` is orders_room() zeroed bytes, and like
 * `bytes` in use as long as the orders. Returns the first string it does not know, NULL if it knows
 * all.
 */
const char *orders_read(struct orders *ret, const char *bytes, size_t size, void *room);

#endif
