/* SPDX-License-Identifier: MIT */
#include "vmm/run/guest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"

int guest_file_open(const char *root, const char *path, int flags)
{
    const struct open_how how = {
        .flags = (uint64_t)(O_CLOEXEC | flags | (flags & O_PATH ? 0 : O_NONBLOCK | O_NOCTTY)),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    cleanup_close int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = directory < 0 ? -1 : (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));

    return fd < 0 ? -errno : fd;
}

FILE *guest_file_read(const char *root, const char *path)
{
    cleanup_close int fd = guest_file_open(root, path, 0);
    struct stat st;
    FILE *file;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        errno = fd < 0 ? -fd : ENOENT;
        return NULL;
    }
    file = fdopen(fd, "r");
    if (file)
        take_fd(&fd);
    return file;
}
