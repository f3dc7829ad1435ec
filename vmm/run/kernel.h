/* SPDX-License-Identifier: MIT */
#ifndef VMM_RUN_KERNEL_H
#define VMM_RUN_KERNEL_H

struct image;

#define KERNEL_VERSION_SIZE 65 /* as uname(2) has it */

/*
 * The version a kernel has compiled in, "6.1.0-56-amd64", whatever this machine can boot: bzImage,
 * arm64 Image (plain, gzip, zstd, zboot), ELF. Prints why there is none; -errno.
 */
int kernel_version(char ret[KERNEL_VERSION_SIZE], const struct image *kernel);

/*
 * The kernel to take when none is named, from `directory` ("/boot"): the running one if it can be
 * read, else the newest that can. The path is the caller's to free. Prints how to get one; -errno.
 */
int kernel_find(char **ret_path, const char *directory);

#endif
