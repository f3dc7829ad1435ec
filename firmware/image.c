/* SPDX-License-Identifier: MIT */
#include "firmware/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/open.h"
#include "vmm/core/write.h"

static const char *image_mode_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a pipe";
    case S_IFBLK:
    case S_IFCHR:
        return "a device";
    default:
        return "a socket";
    }
}

int image_open(struct image *ret_image, const char *path)
{
    return image_open_fd(ret_image, -1, path);
}

int image_open_fd(struct image *ret_image, int source, const char *path)
{
    cleanup_close int fd =
        source >= 0 ? fcntl(source, F_DUPFD_CLOEXEC, 0) : open(path, O_PATH | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return log_error(errno, "open %s", path);
    if (fstat(fd, &st) < 0)
        return log_error(errno, "stat %s", path);
    if (!S_ISREG(st.st_mode))
        return log_refuse(EINVAL, "%s is %s; name a regular file to load", path,
                          image_mode_name(st.st_mode));
    if (st.st_size <= 0)
        return log_refuse(EINVAL, "%s is empty; name a file with contents", path);
    if (source < 0) {
        cleanup_close int path_fd = take_fd(&fd);

        fd = open_known(path_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return log_error(errno, "open %s", path);
    }
    *ret_image = (struct image){ .fd = take_fd(&fd), .path = path, .size = (uint64_t)st.st_size };
    return 0;
}

void image_close(struct image *image)
{
    if (image->fd >= 0)
        close(image->fd);
    image->fd = -1;
}

static int image_truncated(const struct image *image, uint64_t offset, uint64_t len)
{
    return log_refuse(
        EINVAL, "%s is truncated or damaged: needs %llu bytes at offset %llu, has %llu in total",
        image->path, (unsigned long long)len, (unsigned long long)offset,
        (unsigned long long)image->size);
}

int image_read(const struct image *image, uint64_t offset, void *dst, size_t len)
{
    char *next = dst;
    size_t left = len;

    if (offset > image->size || len > image->size - offset)
        return image_truncated(image, offset, len);

    while (left > 0) {
        ssize_t n = pread(image->fd, next, left, (off_t)(image->start + offset + (len - left)));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return log_error(errno, "read %s", image->path);
        if (n == 0)
            return image_truncated(image, offset, len);
        next += n;
        left -= (size_t)n;
    }
    return 0;
}

int image_load(const struct image *image, uint64_t offset, uint64_t len, struct guest_memory *mem,
               gpa_t gpa)
{
    void *dst = guest_ptr(mem, gpa, len);

    if (!dst)
        return log_refuse(EFAULT, "%s: no guest memory for %llu bytes at %#llx; raise --memory",
                          image->path, (unsigned long long)len, (unsigned long long)gpa);
    return image_read(image, offset, dst, len);
}

int image_save(const char *path, const void *bytes, size_t size)
{
    cleanup_close int fd = open_output(path, O_TRUNC, 0600);
    int error;

    if (fd < 0)
        return open_error("create", path);
    error = write_all(fd, bytes, size);
    return error ? log_error(-error, "write %s", path) : 0;
}
