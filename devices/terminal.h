/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_TERMINAL_H
#define DEVICES_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/loop.h"

/*
 * The host end of a guest's console: bytes out to a descriptor, bytes in from one, both bounded.
 * Whatever the descriptors are (terminal, pipe, regular file, /dev/null, closed), nothing is lost
 * and nobody spins. Descriptors are never made non-blocking: they are shared with the shell. Output
 * is written by a thread of its own, started at the first byte, so a stalled reader stalls nobody
 * else; input is read on `loop`, only as fast as the guest takes it.
 *
 * Where the input is a terminal it is put in raw mode, and restored by terminal_destroy() and by
 * any deadly signal. There, Ctrl-A is the escape key: Ctrl-A x ends the machine, Ctrl-A h
 * prints help, Ctrl-A Ctrl-A (or Ctrl-A a) sends one Ctrl-A, other keys are swallowed.
 */
struct terminal;

/* The guest's end: a chip. On the terminal's loop. */
struct terminal_client {
    size_t (*room)(void *client); /* how many bytes it would take now */
    void (*input)(void *client, const uint8_t *bytes, size_t count); /* count <= room() */
    void (*writable)(void *client); /* after terminal_try_write() took less than all; may be NULL */
    void (*resized)(void *client);  /* see terminal_size(); may be NULL */
    void *owner;                    /* first argument of all four */
};

struct terminal_config {
    int input;                 /* -1: no input */
    int output;                /* -1: output is dropped */
    void (*quit)(void *owner); /* Ctrl-A x, on the loop */
    void *owner;
};

/* The descriptors stay the caller's. Prints why it failed; -errno. */
int terminal_create(struct terminal **ret, const struct terminal_config *config, struct loop *loop);

/* Writes out what is buffered for at most `linger_ms`, restores the terminal. Accepts NULL. */
void terminal_destroy(struct terminal *terminal, unsigned linger_ms);

void terminal_set_client(struct terminal *terminal, const struct terminal_client *client);

/* Takes all bytes; waits while the buffer is full, but not after terminal_abandon(). Any thread. */
void terminal_write(struct terminal *terminal, const void *bytes, size_t count);

/* Takes what fits, returns how much; when less than all, client->writable() follows. */
size_t terminal_try_write(struct terminal *terminal, const void *bytes, size_t count);

/* The client has room again. Any thread. */
void terminal_take_input(struct terminal *terminal);

/* Columns and rows of the terminal; false where there is none. */
bool terminal_size(struct terminal *terminal, uint16_t *ret_columns, uint16_t *ret_rows);

/* SIGWINCH came; SIGCONT came (raw mode again, for the shell has changed it). On the loop. */
void terminal_window_changed(struct terminal *terminal);
void terminal_continued(struct terminal *terminal);

/* From now on output that finds no room is dropped: nobody waits any more. Any thread. */
void terminal_abandon(struct terminal *terminal);

#endif
