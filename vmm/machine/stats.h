/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_STATS_H
#define VMM_MACHINE_STATS_H

/*
 * The counters of a run, summed over resets. They are plain integers, each written by one thread or
 * under a lock (but accesses to a region are counted atomically). So they may be read only after
 * vCPU threads and loops have ended.
 */
struct machine;

/* Prints tables to stderr; each starts with a line of column names. */
void stats_print(const struct machine *machine);

#endif
