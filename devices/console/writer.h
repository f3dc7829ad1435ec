/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CONSOLE_WRITER_H
#define DEVICES_CONSOLE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes out to a descriptor that may block for as long as it likes. A bounded buffer stands
 * between, and a thread of the writer's own calls write(); buffer and thread come into being when
 * they are first needed. A descriptor that takes no more (EPIPE, ENOSPC, ...) is reported once, and
 * what is written after that is dropped. SIGPIPE is ignored. Any thread may call.
 */
struct writer;

/*
 * Duplicates `fd`, which may be -1 or closed: then all output is dropped. A `quiet` one does not
 * report that its reader has gone. 0 or -errno; prints nothing.
 */
int writer_create(struct writer **ret, int fd, bool quiet);

/*
 * Waits until all is written, or for `linger_ms` nothing was, or `linger_ms` after
 * writer_abandon(): the rest, and what comes later, is dropped.
 */
void writer_close(struct writer *writer, unsigned linger_ms);
void writer_destroy(struct writer *writer, unsigned linger_ms); /* the same, and frees it */

void writer_count(struct writer *writer, uint64_t *ret_bytes, uint64_t *ret_writes); /* so far */

/* Takes all bytes; waits while the buffer is full, but not after writer_abandon(). */
void writer_write(struct writer *writer, const void *bytes, size_t count);

/* Until writer_resume() who waits in writer_write() finds room for another 4 KiB. */
void writer_pause(struct writer *writer);
void writer_resume(struct writer *writer);

/* Takes what fits, returns how much. Less than all: an eventfd, writer_room_fd(), will be
 * signalled. */
size_t writer_try_write(struct writer *writer, const void *bytes, size_t count);
int writer_room_fd(const struct writer *writer);

/*
 * How many bytes were taken and are neither written nor dropped: none after writer_abandon(). If
 * there are some, writer_room_fd() will be signalled when there are less.
 */
size_t writer_waiting(struct writer *writer);

/* Why the descriptor took no more, which writer_room_fd() has signalled: errno, or 0. */
int writer_failed(struct writer *writer);

/*
 * What was taken is written, then the duplicate closed; drops what comes later. With `shut_down`
 * a socket's peer sees the end although others have it open, too. Does not wait.
 */
void writer_end(struct writer *writer, bool shut_down);

/* From now on what finds no room is dropped. */
void writer_abandon(struct writer *writer);

#endif
