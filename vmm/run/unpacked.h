/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_UNPACKED_H
#define VMM_RUN_UNPACKED_H

/*
 * Opens what a bzImage contains, unpacked, for struct config's unpacked_fd: a file of the cache
 * $XDG_CACHE_HOME/minivmm/kernels, made first if it is not there. A guest takes longer to unpack
 * itself, and does it at every start. Returns a descriptor, read-only, or -1 with at most a message
 * at LOG_LEVEL_INFO: the kernel is no such file, or cannot be kept. With one thread only.
 */
int unpacked_open(const char *kernel);

#endif
