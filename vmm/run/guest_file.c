/* SPDX-License-Identifier: MIT */
#include "vmm/run/guest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"
#include "vmm/core/open.h"
#include "vmm/core/write.h"

int guest_file_open(const char *root, const char *path, int flags)
{
    const struct open_how how = {
        .flags = (uint64_t)(O_CLOEXEC | flags),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    cleanup_close int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = directory < 0 ? -1 : (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));

    return fd < 0 ? -errno : fd;
}

/* Copies the file to one in memory. Its descriptor, or -errno. */
static int guest_file_copy(int fd)
{
    cleanup_close int copy = memfd_create("copy", MFD_CLOEXEC);
    char bytes[4096];
    size_t size = 0;
    ssize_t got;
    int error;

    while (copy >= 0 && (got = read(fd, bytes, sizeof(bytes))) > 0) {
        size += (size_t)got;
        if (size > GUEST_FILE_MAX)
            return -EFBIG;
        error = write_all(copy, bytes, (size_t)got);
        if (error)
            return error;
    }
    if (copy < 0 || got < 0 || lseek(copy, 0, SEEK_SET) < 0)
        return -errno;
    return take_fd(&copy);
}

FILE *guest_file_read(const char *root, const char *path)
{
    cleanup_close int path_fd = guest_file_open(root, path, O_PATH), fd = -1, copy = -1;
    struct stat st;
    FILE *file;

    if (path_fd < 0 || fstat(path_fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        errno = path_fd < 0 ? -path_fd : ENOENT;
        return NULL;
    }
    fd = open_known(path_fd, NULL, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    copy = fd < 0 ? -errno : guest_file_copy(fd);
    if (copy < 0) {
        errno = -copy;
        return NULL;
    }
    file = fdopen(copy, "r");
    if (file)
        take_fd(&copy);
    return file;
}
