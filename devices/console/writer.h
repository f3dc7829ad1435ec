/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_CONSOLE_WRITER_H
#define DEVICES_CONSOLE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Buffered output to a descriptor that may block indefinitely. A thread of the writer's own calls
 * write(), and takes bytes from a bounded ring. The thread is created by writer_serve() when there
 * is output that needs it. If write() fails (EPIPE, ENOSPC, ...), that is logged once, and all
 * further output is dropped. The process must ignore SIGPIPE. Functions may be called on any
 * thread.
 */
struct writer;

/*
 * Duplicates `fd`. If that is -1 or closed, all output is dropped. With `ignore_epipe`, EPIPE is
 * not logged. 0 or -errno, not logged.
 */
int writer_create(struct writer **ret, int fd, bool ignore_epipe);

/* Drops output after `bytes` more, and logs that once. Before the first output. */
void writer_set_max(struct writer *writer, uint64_t bytes);

/*
 * Drains: blocks until all is written, or nothing was for `linger_ms`; after writer_abandon(), for
 * at most `linger_ms`. The rest and all later output is dropped.
 */
void writer_close(struct writer *writer, unsigned linger_ms);
void writer_destroy(struct writer *writer, unsigned linger_ms); /* and frees it */

/* Bytes accepted and write() calls made so far. */
void writer_count(struct writer *writer, uint64_t *ret_bytes, uint64_t *ret_writes);

/* Queues all bytes. Blocks while the buffer is full, until writer_abandon(). */
void writer_write(struct writer *writer, const void *bytes, size_t count);

/* Until writer_resume() there is room for another 4 KiB, to release writer_write() callers. */
void writer_pause(struct writer *writer);
void writer_resume(struct writer *writer);

/* Queues and returns what fits. After a short write, writer_event_fd() is signalled. */
size_t writer_try_write(struct writer *writer, const void *bytes, size_t count);

/* An eventfd, owned by the writer: it has work for writer_serve(), or there is room again. */
int writer_event_fd(const struct writer *writer);

/* To be called when that is signalled, on a thread that may create threads. */
void writer_serve(struct writer *writer);

/*
 * Bytes queued and not yet written; 0 after writer_abandon(). If not 0, writer_event_fd() is
 * signalled when there are fewer.
 */
size_t writer_queued(struct writer *writer);

/* The error of write(), or 0. writer_event_fd() is signalled when it occurs. */
int writer_failed(struct writer *writer);

/*
 * Closes the duplicate when all that is queued has been written; later output is dropped. With
 * `shut_down`, a socket is shut down for writing first: its peer sees the end even if other
 * descriptors of it are open. Does not block.
 */
void writer_end(struct writer *writer, bool shut_down);

/* From now on, output that does not fit is dropped, and nothing blocks for it. */
void writer_abandon(struct writer *writer);

#endif
