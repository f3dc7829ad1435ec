/* SPDX-License-Identifier: MIT */
#include "firmware/init/root.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "firmware/init/job.h"
#include "firmware/init/message.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"
#include "vmm/core/base.h"

#define NOTHING_SPECIAL (MS_NOSUID | MS_NODEV)

struct root_mount {
    const char *type, *path;
    unsigned long flags;
    const char *data;
    bool silent; /* not every kernel has it */
};

static const struct root_mount root_of_kernel[] = {
    { .type = "proc", .path = "/proc", .flags = NOTHING_SPECIAL | MS_NOEXEC },
    { .type = "sysfs", .path = "/sys", .flags = NOTHING_SPECIAL | MS_NOEXEC },
    { .type = "devtmpfs", .path = "/dev", .flags = MS_NOSUID },
};

static const struct root_mount root_of_programs[] = {
    { .type = "devpts",
      .path = "/dev/pts",
      .flags = MS_NOSUID | MS_NOEXEC,
      .data = "mode=0620,gid=5,ptmxmode=0666" },
    { .type = "tmpfs", .path = "/dev/shm", .flags = NOTHING_SPECIAL, .data = "mode=1777" },
    { .type = "tmpfs", .path = "/run", .flags = NOTHING_SPECIAL, .data = "mode=0755" },
    { .type = "cgroup2",
      .path = "/sys/fs/cgroup",
      .flags = NOTHING_SPECIAL | MS_NOEXEC,
      .silent = true },
};

static void root_make_directory(const char *path)
{
    struct text part = { .used = 0 };

    for (const char *end = path; *end; end += *end == '/') {
        const char *start = end;

        while (*end && *end != '/')
            end++;
        text_add_bytes(&part, start, (size_t)(end - start));
        if (end > start)
            sys_mkdir(part.bytes, 0755); /* there already: fine; else mounting there says why */
        text_add(&part, "/");
    }
}

static int root_mount(const struct root_mount *mount)
{
    root_make_directory(mount->path);
    return sys_mount(mount->type, mount->path, mount->type, mount->flags, mount->data);
}

void root_mount_kernel(struct voice *voice)
{
    for (unsigned i = 0; i < ARRAY_SIZE(root_of_kernel); i++) {
        int error = root_mount(&root_of_kernel[i]);

        if (error)
            voice_fail(voice, error, "mount ", root_of_kernel[i].path);
    }
    voice->log = sys_open("/dev/kmsg", O_WRONLY);
    for (int fd = 0; fd < 3; fd++)
        sys_dup(voice->log, fd); /* taken, so that nothing else lands there */
}

/* The share `tag` on `path`. */
static int root_mount_share(const char *tag, const char *path, bool writable)
{
    unsigned long flags = NOTHING_SPECIAL | (writable ? 0 : MS_RDONLY);

    root_make_directory(path);
    return sys_mount(tag, path, "virtiofs", flags, NULL);
}

/* The host's files below, a file system in memory above. */
static void root_mount_overlay(const struct voice *voice)
{
    static const struct root_mount upper = { .type = "tmpfs", .path = "/upper" };
    static const struct root_mount overlay = {
        .type = "overlay",
        .path = "/new",
        .data = "lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work",
    };
    int error = root_mount_share(ORDERS_ROOT, "/lower", false);

    if (error == -ENODEV)
        voice_fail(voice, error, "mount the root: this kernel has no virtiofs", "");
    if (error)
        voice_fail(voice, error, "mount the root", "");
    error = root_mount(&upper);
    if (error)
        voice_fail(voice, error, "mount a tmpfs for what is written to the root", "");
    sys_mkdir("/upper/data", 0755);
    sys_mkdir("/upper/work", 0755);
    error = root_mount(&overlay);
    if (error == -ENODEV)
        voice_fail(voice, error, "mount the root: this kernel has no overlay", "");
    if (error)
        voice_fail(voice, error, "mount an overlay on the root", "");
}

/* The overlay moves on top of what was the root; the init's first mounts are not needed any more.
 */
static void root_switch(const struct voice *voice)
{
    int error = sys_chdir("/new");

    for (unsigned i = 0; i < ARRAY_SIZE(root_of_kernel); i++)
        sys_unmount(root_of_kernel[i].path, MNT_DETACH);
    if (!error)
        error = sys_mount(".", "/", NULL, MS_MOVE, NULL);
    if (!error)
        error = sys_chroot(".");
    if (!error)
        error = sys_chdir("/");
    if (error)
        voice_fail(voice, error, "change to the new root", "");
}

/* What udev would make. */
static void root_link_descriptors(void)
{
    static const char *const links[][2] = {
        { "/proc/self/fd", "/dev/fd" },
        { "/proc/self/fd/0", "/dev/stdin" },
        { "/proc/self/fd/1", "/dev/stdout" },
        { "/proc/self/fd/2", "/dev/stderr" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(links); i++)
        sys_symlink(links[i][0], links[i][1]);
}

/* Of "rw:TAG:DIRECTORY". */
static const char *root_share_directory(const char *share)
{
    const char *end = strchr(share + 3, ':');

    return end ? end + 1 : share;
}

static bool root_share_writable(const char *share)
{
    return text_after(share, "rw:");
}

static void root_add_share(const struct voice *voice, const char *share)
{
    const char *directory = root_share_directory(share);
    struct text tag = { .used = 0 };
    int error;

    text_add_bytes(&tag, share + 3, (size_t)(directory - 1 - (share + 3)));
    error = root_mount_share(tag.bytes, directory, root_share_writable(share));
    if (error)
        voice_fail(voice, error, "mount the share on ", directory);
}

void root_build(const struct voice *voice, const char **shares)
{
    root_mount_overlay(voice);
    root_switch(voice);
    for (unsigned i = 0; i < ARRAY_SIZE(root_of_kernel); i++) {
        int error = root_mount(&root_of_kernel[i]);

        if (error)
            voice_fail(voice, error, "mount ", root_of_kernel[i].path);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(root_of_programs); i++) {
        int error = root_mount(&root_of_programs[i]);

        if (error && !root_of_programs[i].silent)
            voice_note(voice, error, "mount ", root_of_programs[i].path);
    }
    root_link_descriptors();
    for (; *shares; shares++)
        root_add_share(voice, *shares);
}

void root_leave(const struct voice *voice, const char **shares)
{
    unsigned count = 0;

    sys_sync();
    while (shares[count])
        count++;
    while (count-- > 0) {
        const char *directory = root_share_directory(shares[count]);
        int error = sys_unmount(directory, 0);

        if (error && root_share_writable(shares[count]))
            error = sys_mount(NULL, directory, NULL, MS_REMOUNT | MS_RDONLY, NULL);
        if (error && root_share_writable(shares[count]))
            voice_note(voice, error, "unmount ", directory);
    }
}

void root_put_file(const struct voice *voice, const char *path, const char *content)
{
    int fd, error;

    sys_unlink(path); /* perhaps a symbolic link into a /run that is not here */
    fd = sys_open(path, O_WRONLY | O_CREAT | O_TRUNC);
    error = fd < 0 ? fd : (int)sys_write(fd, content, strlen(content));
    if (error < 0)
        voice_note(voice, error, "write ", path);
    if (fd >= 0)
        sys_close(fd);
}
