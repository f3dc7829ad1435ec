/* SPDX-License-Identifier: MIT */
#ifndef VMM_SNAPSHOT_SHOW_H
#define VMM_SNAPSHOT_SHOW_H

/* Prints every section and field of a snapshot, of a newer minivmm's, too. Prints errors; -errno.
 */
int snapshot_show(const char *directory);

/* Checks the files of a snapshot, and that state and memory belong together. Prints errors; -errno.
 */
int snapshot_verify(const char *directory);

#endif
