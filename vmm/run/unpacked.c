/* SPDX-License-Identifier: MIT */
#include "vmm/run/unpacked.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "firmware/boot/payload.h"
#include "firmware/boot/uki.h"
#include "firmware/image.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/write.h"
#include "vmm/run/cache.h"

#define NAME_SIZE    (NAME_MAX + 1)
#define KEPT         4 /* kernels; one unpacks to some 60 MiB */
#define MAX_UNPACKED (512 * MIB)
#define PIECE        (256 * KIB)

/* Another file, or another content of the file, has another name. */
static bool unpacked_name(char ret[NAME_SIZE], const struct image *kernel)
{
    struct stat st;

    if (fstat(kernel->fd, &st) < 0)
        return false;
    snprintf(ret, NAME_SIZE, "%jx-%jx-%jx-%jx-%jx.%lx-%jx.%lx", (uintmax_t)st.st_dev,
             (uintmax_t)st.st_ino, (uintmax_t)kernel->start, (uintmax_t)kernel->size,
             (uintmax_t)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec,
             (uintmax_t)st.st_ctim.tv_sec, (unsigned long)st.st_ctim.tv_nsec);
    return true;
}

/* A file of the cache, which was used now. */
static int unpacked_find(int cache, const char *name, uint64_t size)
{
    cleanup_close int fd = cache_open_file(cache, name);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)
        return -1;
    futimens(fd, NULL);
    return take_fd(&fd);
}

static int unpacked_write(int fd, const struct image *kernel, const struct payload *payload)
{
    cleanup_free uint8_t *bytes = malloc(PIECE);
    struct decompressor *d;
    uint64_t size = 0;
    int64_t got = -ENOMEM;
    int error = decompress_open(&d, kernel, payload->offset, payload->size, payload->compression);

    if (error)
        return error;
    while (bytes && (got = decompress_read(d, bytes, PIECE)) > 0 &&
           (uint64_t)got <= payload->unpacked_size - size) {
        if (write_all_at(fd, bytes, (size_t)got, size))
            break;
        size += (uint64_t)got;
    }
    decompress_close(d);
    return got == 0 && size == payload->unpacked_size ? 0 : -EIO;
}

/* The file has no name before it is complete, so nothing is left behind. Another maker of the same
 * file may be faster: then his is used. */
static void unpacked_make(int cache, const char *name, const struct image *kernel,
                          const struct payload *payload)
{
    cleanup_close int fd = openat(cache, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
    char self[40];

    if (fd < 0 || fallocate(fd, 0, 0, payload->unpacked_size) < 0)
        return; /* no such files, or no room: known before it takes time */
    if (unpacked_write(fd, kernel, payload) || fdatasync(fd) < 0)
        return;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, cache, name, AT_SYMLINK_FOLLOW) == 0)
        log_info("unpacked %s, for later starts, too", kernel->path);
}

/* The least recently used file; returns how many there are. */
static unsigned unpacked_oldest(DIR *files, char ret[NAME_SIZE])
{
    struct timespec oldest = { 0 };
    const struct dirent *entry;
    unsigned count = 0;
    struct stat st;

    rewinddir(files);
    while ((entry = readdir(files)))
        if (fstatat(dirfd(files), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode) && (count++ == 0 || st.st_mtim.tv_sec < oldest.tv_sec)) {
            oldest = st.st_mtim;
            snprintf(ret, NAME_SIZE, "%s", entry->d_name);
        }
    return count;
}

/* A kernel that runs has its file open: it loses only the name. */
static void unpacked_drop_oldest(int cache)
{
    int fd = openat(cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *files = fd < 0 ? NULL : fdopendir(fd);
    char name[NAME_SIZE];

    if (!files)
        return;
    while (unpacked_oldest(files, name) > KEPT && unlinkat(cache, name, 0) == 0)
        ;
    closedir(files);
}

static int unpacked_get(const struct image *kernel)
{
    cleanup_close int cache = -1;
    struct payload payload;
    char name[NAME_SIZE];
    int fd;

    if (!payload_find(&payload, kernel) || payload.unpacked_size > MAX_UNPACKED ||
        !unpacked_name(name, kernel))
        return -1;
    cache = cache_open("kernels");
    if (cache < 0) {
        log_info("%s unpacks itself", kernel->path);
        return -1;
    }
    fd = unpacked_find(cache, name, payload.unpacked_size);
    if (fd < 0) {
        unlinkat(cache, name, 0); /* something else */
        unpacked_make(cache, name, kernel, &payload);
        fd = unpacked_find(cache, name, payload.unpacked_size);
        unpacked_drop_oldest(cache);
    }
    return fd;
}

int unpacked_open(const char *kernel)
{
    struct image image;
    int fd = -1;

    log_expect_errors(true);
    if (uki_open(&image, kernel) == 0) {
        fd = unpacked_get(&image);
        image_close(&image);
    }
    log_expect_errors(false);
    return fd;
}
