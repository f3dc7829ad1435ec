/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_DESCRIPTORS_H
#define VMM_CLI_DESCRIPTORS_H

/*
 * The file descriptors that a process is started with. Both functions must be called before it
 * opens any file, in this order: afterwards a number tells nothing about whose it is.
 */
struct config;

/*
 * Checks that the descriptors which `config` names are open, by number or by a path such as
 * /dev/fd/3. Prints the first fault; -errno.
 */
int descriptors_check(const struct config *config);

/*
 * Opens /dev/null on those of 0 to 2 that are closed: no file of ours may take their place. Also
 * makes room for all descriptors of a machine.
 */
void descriptors_reserve(void);

#endif
