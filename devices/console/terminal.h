/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CONSOLE_TERMINAL_H
#define DEVICES_CONSOLE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/core/loop.h"

/*
 * The back-end of a guest's console: writes its output to one descriptor and reads its input from
 * another, both through bounded buffers. The descriptors may be of any kind (terminal, pipe,
 * regular file, /dev/null, closed): no bytes are lost on the way, and nothing busy-waits. They are
 * never made non-blocking, because that would affect the shell, which shares them. A separate
 * thread writes the output (writer.h), so a reader that stalls blocks no other thread. Input is
 * read on `loop`, at most 64 KiB ahead of the guest.
 *
 * A terminal as input is put into raw mode by terminal_start(), and restored by terminal_destroy()
 * and by any fatal signal. While this process is in the background, it is left alone, until
 * terminal_continued() or half a second after a shell's fg. Ctrl-A is then the escape key: Ctrl-A x
 * ends the machine, Ctrl-A h prints help, Ctrl-A Ctrl-A (or Ctrl-A a) sends one Ctrl-A, and other
 * keys after Ctrl-A are dropped. With `interrupts` there is no escape key, and all keys reach the
 * guest. Ctrl-C then also ends the machine; once terminal_pass_interrupts() was called, only if
 * pressed twice within 2 s.
 */
struct terminal;

/* The device that the terminal is connected to. Called on the terminal's loop. */
struct terminal_client {
    /* Returns the bytes it had room for. It calls terminal_request_input() to get the rest. */
    size_t (*input)(void *owner, const uint8_t *bytes, size_t count);
    void (*writable)(void *owner); /* there is room after a short write; may be NULL */
    void (*resized)(void *owner);  /* see terminal_size(); may be NULL */

    /* Called once: all input was delivered up to its end, or writing failed. May be NULL. */
    void (*closed)(void *owner);
    void *owner;
};

struct terminal_config {
    int input;                 /* -1: no input */
    int output;                /* -1: output is dropped */
    uint64_t max;              /* bytes of output, of which the rest is dropped; 0: no limit */
    void (*quit)(void *owner); /* a key ends the machine; called on the loop */
    void *owner;
    bool stream;     /* a program's bytes: no escape key, no raw mode, EPIPE is not logged */
    bool interrupts; /* Ctrl-C in place of the escape key, see above */
    bool held;       /* input waits until terminal_release(); that of a stream is not read */
};

/* The caller keeps the descriptors open until terminal_destroy(). 0 or -errno, logged. */
int terminal_create(struct terminal **ret, const struct terminal_config *config, struct loop *loop);

/* Lets input through that was held. On the loop. */
void terminal_release(struct terminal *terminal);

/* Puts a terminal into raw mode, once nothing is left to wait for. On the loop, or before it. */
void terminal_start(struct terminal *terminal);

/*
 * Drains the output: blocks until all is written, or until the reader took nothing for `linger_ms`.
 * Later output is dropped. Accepts NULL.
 */
void terminal_close(struct terminal *terminal, unsigned linger_ms);

/* Bytes accepted for output, and the number of write() calls. After terminal_close(). */
void terminal_count(const struct terminal *terminal, uint64_t *ret_bytes, uint64_t *ret_writes);

/*
 * terminal_close(), restores the terminal's mode, and frees it. Accepts NULL. Called on the loop's
 * thread, or after that has ended.
 */
void terminal_destroy(struct terminal *terminal, unsigned linger_ms);

/* Copies `client`; NULL: none, input stays buffered. On the loop, or before it runs. */
void terminal_set_client(struct terminal *terminal, const struct terminal_client *client);

/* Queues all bytes. Blocks while the buffer is full, until terminal_abandon(). Any thread. */
void terminal_write(struct terminal *terminal, const void *bytes, size_t count);

/* Queues and returns what fits. After a short write, client->writable() is called. Any thread. */
size_t terminal_try_write(struct terminal *terminal, const void *bytes, size_t count);

/*
 * Bytes of output queued and not yet written. If not 0, client->writable() is called when there are
 * fewer. Any thread.
 */
size_t terminal_queued(struct terminal *terminal);

/*
 * Ends the output: when what is queued has been written, closes our duplicate of the descriptor,
 * and if input and output are one socket, shuts it down for writing. Later output is dropped. Does
 * not block.
 */
void terminal_end_output(struct terminal *terminal);

/* Has output of a stream been lost to an error other than EPIPE? Any thread. */
bool terminal_lost_output(struct terminal *terminal);

/* The client has room again: its input() will be called. Any thread. */
void terminal_request_input(struct terminal *terminal);

/* The size of the terminal that the output, else the input is. False: neither is one. */
bool terminal_size(struct terminal *terminal, uint16_t *ret_columns, uint16_t *ret_rows);

/* The guest now handles Ctrl-C: the first one no longer ends the machine. On the loop. */
void terminal_pass_interrupts(struct terminal *terminal);

/* For SIGWINCH, and for SIGCONT: sets raw mode again, which the shell reset. On the loop. */
void terminal_window_changed(struct terminal *terminal);
void terminal_continued(struct terminal *terminal);

/*
 * Until terminal_resume() the client is not called: input stays buffered, and
 * terminal_resume() makes the other calls that were due. Keys that end the machine still work, and
 * queued output is written.
 *
 * Pausing adds 4 KiB of room for output, so that vCPUs blocked in terminal_write() can park
 * although the reader stalls: request the vCPUs to park, then pause, then wait for them. The
 * client's device must be resumed before the terminal. On the loop.
 */
void terminal_pause(struct terminal *terminal);
void terminal_resume(struct terminal *terminal);

/* From now on, output that does not fit is dropped, and nothing blocks for it. Any thread. */
void terminal_abandon(struct terminal *terminal);

/* Gives all terminals their mode back, before the process dies of a signal. Async-signal-safe. */
void terminal_restore_all(void);

#endif
