/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_CACHE_H
#define VMM_RUN_CACHE_H

/*
 * The user's cache, $XDG_CACHE_HOME/minivmm (~/.cache). What is found there is trusted, so it must
 * be the user's own and writable by nobody else.
 */

/* Opens one of its directories, made first if it is not there. Prints; -errno. */
int cache_open(const char *name);

/* Opens a regular file of such a directory to read it. Prints nothing; -errno. */
int cache_open_file(int directory, const char *name);

#endif
