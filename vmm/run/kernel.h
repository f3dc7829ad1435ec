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
 * Finds the default kernel below the directory `root`, "" for this host: the running kernel if its
 * file is readable, else the newest readable one. Looks where distributions install kernels, and
 * tells them and their versions by what is in the files. The caller frees the path. Prints errors,
 * and at LOG_LEVEL_INFO what cannot be read; -errno.
 */
int kernel_find(char **ret_path, char ret_version[KERNEL_VERSION_SIZE], const char *root);

#endif
