/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_KERNEL_H
#define VMM_RUN_KERNEL_H

struct image;

#define KERNEL_VERSION_SIZE 65 /* bytes, as in struct utsname */

/*
 * Finds the version compiled into a kernel, such as "6.1.0-56-amd64". The file may be of any
 * architecture: bzImage, ELF, arm64 Image (plain, gzip, zstd, zboot). Prints errors; -errno.
 */
int kernel_version(char ret[KERNEL_VERSION_SIZE], const struct image *kernel);

/*
 * Chooses the default kernel in `directory` ("/boot"): the running kernel if its file is readable,
 * else the newest readable one. The caller frees the path. Prints errors; -errno.
 */
int kernel_find(char **ret_path, const char *directory);

#endif
