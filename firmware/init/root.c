/* SPDX-License-Identifier: MIT */
#include "firmware/init/root.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "firmware/init/job.h"
#include "firmware/init/job_read.h"
#include "firmware/init/message.h"
#include "firmware/init/sys.h"
#include "firmware/init/text.h"
#include "vmm/core/base.h"

#define NO_SUID_OR_DEVICES (MS_NOSUID | MS_NODEV)
#define KERNEL_FILES       (NO_SUID_OR_DEVICES | MS_NOEXEC)

struct root_mount {
    const char *type, *path;
    unsigned long flags;
    const char *data;
    const char *needs; /* without this file the kernel does not know the type, and would look for a
                          module; in /sys the path tells. NULL: always try */
    bool optional;     /* some kernels do not support it: not reported */
};

static const struct root_mount root_kernel_mounts[] = {
    { .type = "proc", .path = "/proc", .flags = KERNEL_FILES },
    { .type = "sysfs", .path = "/sys", .flags = KERNEL_FILES },
    { .type = "devtmpfs", .path = "/dev", .flags = MS_NOSUID },
};

static const struct root_mount root_program_mounts[] = {
    { .type = "devpts",
      .path = "/dev/pts",
      .flags = MS_NOSUID | MS_NOEXEC,
      .data = "mode=0620,gid=5,ptmxmode=0666" },
    { .type = "tmpfs", .path = "/dev/shm", .flags = NO_SUID_OR_DEVICES, .data = "mode=1777" },
    { .type = "tmpfs", .path = "/run", .flags = NO_SUID_OR_DEVICES, .data = "mode=0755" },
    { .type = "tmpfs", .path = "/run/lock", .flags = NO_SUID_OR_DEVICES, .data = "mode=1777" },
    { .type = "cgroup2", .path = "/sys/fs/cgroup", .flags = KERNEL_FILES, .optional = true },
    { .type = "tracefs", .path = "/sys/kernel/tracing", .flags = KERNEL_FILES, .optional = true },
    { .type = "debugfs", .path = "/sys/kernel/debug", .flags = KERNEL_FILES, .optional = true },
    { .type = "bpf",
      .path = "/sys/fs/bpf",
      .flags = KERNEL_FILES,
      .data = "mode=0700",
      .optional = true },
    { .type = "hugetlbfs",
      .path = "/dev/hugepages",
      .flags = NO_SUID_OR_DEVICES,
      .needs = "/sys/kernel/mm/hugepages",
      .optional = true },
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
            sys_mkdir(part.bytes, 0755); /* unless it exists, the mount fails, too */
        text_add(&part, "/");
    }
}

static bool root_exists(const char *path)
{
    int fd = sys_open(path, O_PATH);

    if (fd >= 0)
        sys_close(fd);
    return fd >= 0;
}

static int root_mount(const struct root_mount *mount)
{
    if (mount->needs && !root_exists(mount->needs))
        return -ENODEV;
    root_make_directory(mount->path);
    return sys_mount(mount->type, mount->path, mount->type, mount->flags, mount->data);
}

void root_mount_kernel(struct message_sink *sink)
{
    for (unsigned i = 0; i < ARRAY_SIZE(root_kernel_mounts); i++) {
        int error = root_mount(&root_kernel_mounts[i]);

        if (error)
            message_fail(sink, error, "mount ", root_kernel_mounts[i].path);
    }
    sink->log = sys_open("/dev/kmsg", O_WRONLY);
    for (int fd = 0; fd < 3; fd++)
        sys_dup(sink->log, fd); /* so that no other file gets descriptors 0 to 2 */
}

static int root_mount_share(const char *tag, const char *path, bool writable)
{
    unsigned long flags = NO_SUID_OR_DEVICES | (writable ? 0 : MS_RDONLY);

    root_make_directory(path);
    return sys_mount(tag, path, "virtiofs", flags, NULL);
}

/* The lower layer is the host's directory, the upper one a tmpfs. */
static void root_mount_overlay(const struct message_sink *sink, struct root_names *names)
{
    static const struct root_mount upper = { .type = "tmpfs", .path = "/upper" };
    static const struct root_mount overlay = {
        .type = "overlay",
        .path = "/new",
        .data = "lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work",
    };
    int error = root_mount_share(JOB_ROOT_TAG, "/lower", false);

    if (error == -ENODEV)
        message_fail(sink, error, "mount the root: this kernel has no virtiofs", "");
    if (error)
        message_fail(sink, error, "mount the root", "");
    error = root_mount(&upper);
    if (error)
        message_fail(sink, error, "mount a tmpfs for changes to the root", "");
    sys_mkdir("/upper/data", 0755);
    sys_mkdir("/upper/work", 0755);
    error = root_mount(&overlay);
    if (error == -ENODEV)
        message_fail(sink, error, "mount the root: this kernel has no overlay", "");
    if (error)
        message_fail(sink, error, "mount an overlay on the root", "");
    names->overlay = sys_pick_mount("/new");
    names->lower = sys_pick_mount("/lower");
}

/* Reconfiguring a filesystem, here to what it is already, shrinks its cache of names. */
void root_drop_names(const struct root_names *names)
{
    sys_reconfigure_mount(names->overlay);
    sys_reconfigure_mount(names->lower);
}

/* Moves the overlay on top of the initramfs, as switch_root(8) does. */
static void root_switch(const struct message_sink *sink)
{
    int error = sys_chdir("/new");

    for (unsigned i = 0; i < ARRAY_SIZE(root_kernel_mounts); i++)
        sys_unmount(root_kernel_mounts[i].path, MNT_DETACH);
    if (!error)
        error = sys_mount(".", "/", NULL, MS_MOVE, NULL);
    if (!error)
        error = sys_chroot(".");
    if (!error)
        error = sys_chdir("/");
    if (error)
        message_fail(sink, error, "change to the new root", "");
}

/* A small root may have no /tmp. One that is there is left as it is. */
static void root_make_tmp(void)
{
    if (!sys_mkdir("/tmp", 0))
        sys_chmod("/tmp", 01777); /* the umask does not apply */
}

static void root_mount_for_programs(const struct message_sink *sink)
{
    for (unsigned i = 0; i < ARRAY_SIZE(root_program_mounts); i++) {
        int error = root_mount(&root_program_mounts[i]);

        if (error && !root_program_mounts[i].optional)
            message_send_note(sink, error, "mount ", root_program_mounts[i].path);
    }
}

/* Shows some entries of the root's /run, which is `hidden` below the guest's. */
static void root_show_in_run(const struct message_sink *sink, int hidden, const char **names)
{
    for (; hidden >= 0 && *names; names++) {
        struct text from = { .used = 0 }, to = { .used = 0 };
        char target[4096];
        long length;
        int error;

        text_add(&from, "/proc/self/fd/");
        text_add_number(&from, hidden);
        text_add(&from, "/");
        text_add(&from, *names);
        text_add(&to, "/run/");
        text_add(&to, *names);
        length = sys_read_link(from.bytes, target, sizeof(target) - 1);
        if (length >= 0) {
            target[length] = '\0';
            error = sys_symlink(target, to.bytes);
        } else {
            root_make_directory(to.bytes);
            error = sys_mount(from.bytes, to.bytes, NULL, MS_BIND | MS_REC, NULL);
        }
        if (error)
            message_send_note(sink, error, "show ", to.bytes);
    }
}

/* "c:10:237:loop-control". Without udev nobody else makes the nodes of modules not yet loaded. */
static void root_make_node(const struct message_sink *sink, const char *node)
{
    const char *minor = strchr(node + 2, ':') + 1;
    struct text path = { .used = 0 };
    char *name;
    int error;

    text_add(&path, "/dev/");
    text_add(&path, strchr(minor, ':') + 1);
    name = path.bytes + path.used;
    while (name[-1] != '/')
        name--;
    name[-1] = '\0';
    root_make_directory(path.bytes);
    name[-1] = '/';
    error = sys_make_node(path.bytes, (*node == 'b' ? S_IFBLK : S_IFCHR) | 0600,
                          (unsigned)text_number(node + 2), (unsigned)text_number(minor));
    if (error && error != -EEXIST)
        message_send_note(sink, error, "make the device node ", path.bytes);
}

/* The links that udev would create. */
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

/* DIRECTORY in "rw:TAG:DIRECTORY". */
static const char *root_share_directory(const char *share)
{
    const char *end = strchr(share + 3, ':');

    return end ? end + 1 : share;
}

static bool root_share_writable(const char *share)
{
    return text_after(share, "rw:");
}

static void root_add_share(const struct message_sink *sink, const char *share)
{
    const char *directory = root_share_directory(share);
    struct text tag = { .used = 0 };
    int error;

    text_add_bytes(&tag, share + 3, (size_t)(directory - 1 - (share + 3)));
    error = root_mount_share(tag.bytes, directory, root_share_writable(share));
    if (error && !strcmp(tag.bytes, JOB_MODULES_TAG))
        message_send_note(sink, error, "show the kernel's modules in ", directory);
    else if (error)
        message_fail(sink, error, "mount the share on ", directory);
}

/* "/etc/hosts:CONTENT". */
static void root_write_file(const struct message_sink *sink, const char *file)
{
    const char *content = strchr(file, ':');
    struct text path = { .used = 0 };
    int fd;
    long error;

    text_add_bytes(&path, file, (size_t)(content++ - file));
    sys_unlink(path.bytes); /* it may be a symbolic link into /run, which is empty here */
    fd = sys_open(path.bytes, O_WRONLY | O_CREAT | O_TRUNC);
    error = fd < 0 ? fd : sys_write(fd, content, strlen(content));
    if (error < 0)
        message_send_note(sink, (int)error, "write ", path.bytes);
    if (fd >= 0)
        sys_close(fd);
}

void root_build(const struct message_sink *sink, const struct job *job, struct root_names *names)
{
    int run;

    root_mount_overlay(sink, names);
    root_switch(sink);
    for (unsigned i = 0; i < ARRAY_SIZE(root_kernel_mounts); i++) {
        int error = root_mount(&root_kernel_mounts[i]);

        if (error)
            message_fail(sink, error, "mount ", root_kernel_mounts[i].path);
    }
    run = sys_open("/run", O_PATH | O_DIRECTORY);
    root_mount_for_programs(sink);
    root_show_in_run(sink, run, job->lists[JOB_RUN]);
    if (run >= 0)
        sys_close(run);
    root_link_descriptors();
    root_make_tmp();
    for (const char **node = job->lists[JOB_NODE]; *node; node++)
        root_make_node(sink, *node);
    root_make_directory("/etc");
    for (const char **file = job->lists[JOB_CONTENT]; *file; file++)
        root_write_file(sink, *file);
    for (const char **share = job->lists[JOB_SHARE]; *share; share++)
        root_add_share(sink, *share);
}

void root_unmount_shares(const struct message_sink *sink, const char **shares)
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
            message_send_note(sink, error, "unmount ", directory);
    }
}
