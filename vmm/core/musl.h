/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_MUSL_H
#define VMM_CORE_MUSL_H

/*
 * What musl lacks of the GNU C library, or has only in its latest versions. meson.build includes
 * this file everywhere if the C library is another.
 */
#ifndef __ASSEMBLER__

#define _LARGEFILE64_SOURCE /* struct dirent64 */
#include <dirent.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef __GLIBC__
/* The kernel's struct statx has stx_mnt_id. */
#define statx           kernel_statx
#define statx_timestamp kernel_statx_timestamp
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/stat.h>

static inline int statx(int directory, const char *path, int flags, unsigned mask,
                        struct statx *ret)
{
    return (int)syscall(SYS_statx, directory, path, flags, mask, ret);
}

/* Not pwritev() without flags, which devices/fs/confine.c denies. */
static inline ssize_t kernel_pwritev2(int fd, const struct iovec *iov, int count, off_t offset,
                                      int flags)
{
    return syscall(SYS_pwritev2, fd, iov, (long)count, offset, 0L, flags);
}
#define pwritev2 kernel_pwritev2

#undef getdents64
static inline ssize_t getdents64(int fd, void *entries, size_t size)
{
    return syscall(SYS_getdents64, fd, entries, size);
}

#endif
#endif
#endif
