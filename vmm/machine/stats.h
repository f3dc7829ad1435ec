/* SPDX-License-Identifier: MIT */
#ifndef VMM_MACHINE_STATS_H
#define VMM_MACHINE_STATS_H

/*
 * The counters of a run, summed over resets. They are plain numbers, kept all the time by whoever
 * does what they count: one thread, or under its lock; only accesses to a device's registers are
 * counted by several. So nobody reads them before vCPUs and loops have ended.
 */
struct machine;

/* Prints tables on stderr; each begins with a line of names, one for each column. */
void stats_print(const struct machine *machine);

#endif
