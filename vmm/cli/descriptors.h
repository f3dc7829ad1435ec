/* SPDX-License-Identifier: MIT */
#ifndef VMM_CLI_DESCRIPTORS_H
#define VMM_CLI_DESCRIPTORS_H

/*
 * The file descriptors that a process is started with. The functions must be called before it opens
 * any file, in this order: afterwards a number tells nothing about whose it is.
 */
struct config;

/*
 * Closes all but the standard ones and those that a word of the command line names, as fd=N or by a
 * path such as /dev/fd/N: what the parent forgot to close is none of the machine's. Since
 * Linux 5.9.
 */
void descriptors_close_unnamed(char *const argv[]);

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
