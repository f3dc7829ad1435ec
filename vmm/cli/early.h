/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_EARLY_H
#define VMM_CLI_EARLY_H

#include <stdint.h>

/*
 * Signals and time limits before a loop listens to them, while files are opened that may be on a
 * file system which does not answer. Nothing has to be undone yet, so the signals of
 * front_end_stop_signals() have their default action: it ends a process that waits in the host's
 * kernel, which a handler could not. Before the first thread.
 */

/*
 * Unblocks the signals. Three seconds after `timeout_ms`, 0 for never, prints that `option` ended
 * the process and exits with `status`; another second later, if it waits for the host, it is
 * killed. These three seconds are for slow hosts: the loop's own alarm, of the same time, reports
 * better.
 */
void early_begin(const char *option, uint64_t timeout_ms, int status);

/* Blocks the signals, for a signalfd, and ends the time limit. Also without early_begin(). */
void early_end(void);

#endif
