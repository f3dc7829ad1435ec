/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CONSOLE_TERMINAL_H
#define DEVICES_CONSOLE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/loop.h"

/*
 * The host end of a guest's console: bytes out to a descriptor, bytes in from one, both bounded.
 * Whatever the descriptors are (terminal, pipe, regular file, /dev/null, closed), nothing is lost
 * and nobody spins. Descriptors are never made non-blocking: they are shared with the shell. Output
 * is written by a thread of its own (devices/writer.h), so a stalled reader stalls nobody else;
 * input is read on `loop`, at most 64 KiB ahead of the guest.
 *
 * Where the input is a terminal it is put in raw mode, and restored by terminal_destroy() and by
 * any deadly signal; in the background it is left alone until terminal_continued(). There, Ctrl-A
 * is the escape key: Ctrl-A x ends the machine, Ctrl-A h prints help, Ctrl-A Ctrl-A (or Ctrl-A a)
 * sends one Ctrl-A, other keys are swallowed. With `interrupts` there is no escape key: all keys
 * reach the guest. Ctrl-C ends the machine until terminal_pass_interrupts(), then twice within 2 s.
 */
struct terminal;

/* The guest's end: a chip. On the terminal's loop. */
struct terminal_client {
    /* Takes what it has room for now, returns how much; terminal_take_input() asks for the rest. */
    size_t (*input)(void *owner, const uint8_t *bytes, size_t count);
    void (*writable)(void *owner); /* after terminal_try_write() took less than all; may be NULL */
    void (*resized)(void *owner);  /* see terminal_size(); may be NULL */
    /* Once: the input, no terminal, is at its end and all of it taken; or nobody reads the output.
     */
    void (*closed)(void *owner); /* may be NULL */
    void *owner;
};

struct terminal_config {
    int input;                 /* -1: no input */
    int output;                /* -1: output is dropped */
    void (*quit)(void *owner); /* the user ends the machine; on the loop */
    void *owner;
    bool stream; /* a program's bytes: no keys, and no error that nobody reads them any more */
    bool interrupts;
};

/* The descriptors stay the caller's, open until terminal_destroy(). Prints why it failed; -errno.
 */
int terminal_create(struct terminal **ret, const struct terminal_config *config, struct loop *loop);

/*
 * Writes out what is buffered, until for `linger_ms` the reader took nothing; what comes later is
 * lost. Accepts NULL.
 */
void terminal_close(struct terminal *terminal, unsigned linger_ms);

/* Bytes taken, and the write() calls it took to get them out. After terminal_close(). */
void terminal_count(const struct terminal *terminal, uint64_t *ret_bytes, uint64_t *ret_writes);

/*
 * The same, and restores the terminal. Accepts NULL. The loop's thread must be this one, or ended.
 */
void terminal_destroy(struct terminal *terminal, unsigned linger_ms);

/* Copies `client`; NULL: none, input is kept back. On the loop, or before it runs. */
void terminal_set_client(struct terminal *terminal, const struct terminal_client *client);

/* Takes all bytes; waits while the buffer is full, but not after terminal_abandon(). Any thread. */
void terminal_write(struct terminal *terminal, const void *bytes, size_t count);

/* Takes what fits, returns how much; when less than all, client->writable() follows. Any thread. */
size_t terminal_try_write(struct terminal *terminal, const void *bytes, size_t count);

/*
 * How many bytes of the output are not yet out. If there are some, client->writable() follows when
 * there are less. Any thread.
 */
size_t terminal_waiting(struct terminal *terminal);

/*
 * The output's last byte was written: closes our duplicate when it is out, and where the input is
 * the same descriptor, a socket, shuts that down. Drops what comes later. Does not wait.
 */
void terminal_end_output(struct terminal *terminal);

/* Of a stream something could not be written, and not for want of a reader. Any thread. */
bool terminal_lost_output(struct terminal *terminal);

/* The client has room again. Any thread. */
void terminal_take_input(struct terminal *terminal);

/* Columns and rows of the terminal, the output's if it is one; false where there is none. */
bool terminal_size(struct terminal *terminal, uint16_t *ret_columns, uint16_t *ret_rows);

/* There is somebody in the guest to act on the first Ctrl-C. On the loop. */
void terminal_pass_interrupts(struct terminal *terminal);

/* SIGWINCH came; SIGCONT came (raw mode again, for the shell has changed it). On the loop. */
void terminal_window_changed(struct terminal *terminal);
void terminal_continued(struct terminal *terminal);

/*
 * Until terminal_resume() the client is not called: input is kept back, what else there is to tell
 * it is told then, once. The keys that end the machine work, and what was taken is written out. Who
 * waits in terminal_write() is let go, with room for 4 KiB more, so that a vCPU can be parked
 * though nobody reads: ask the vCPUs to park, then pause, then wait for them. Resume the client's
 * device first. On the loop.
 */
void terminal_pause(struct terminal *terminal);
void terminal_resume(struct terminal *terminal);

/* From now on output that finds no room is dropped: nobody waits any more. Any thread. */
void terminal_abandon(struct terminal *terminal);

#endif
