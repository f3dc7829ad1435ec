/* SPDX-License-Identifier: MIT */
#include "devices/fs/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define STATX_WANTED (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
#define DEVICE_SHIFT 56 /* in practice, inode numbers do not use the highest 8 bits */

static int tree_openat2(int base, const char *path, uint64_t flags)
{
    const struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC | flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    long fd = syscall(SYS_openat2, base, path, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

static int tree_statx(int fd, const char *name, struct statx *ret)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);

    return statx(fd, name, flags, STATX_WANTED, ret) < 0 ? -errno : 0;
}

/* Is the file on a pseudo filesystem, which must not be shared? True if that is unknown. */
static bool tree_is_pseudo_fs(int fd)
{
    static const unsigned long magics[] = {
        PROC_SUPER_MAGIC,
        SYSFS_MAGIC,
        DEVPTS_SUPER_MAGIC,
        DEBUGFS_MAGIC,
        TRACEFS_MAGIC,
        SECURITYFS_MAGIC,
        CGROUP_SUPER_MAGIC,
        CGROUP2_SUPER_MAGIC,
        BPF_FS_MAGIC,
        BINFMTFS_MAGIC,
        PSTOREFS_MAGIC,
        EFIVARFS_MAGIC,
        SELINUX_MAGIC,
        SMACK_MAGIC,
        NSFS_MAGIC,
        0x62656570 /* configfs */,
        0x65735543 /* fusectl */,
        0x19800202 /* mqueue */,
    };
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return true;
    for (unsigned i = 0; i < ARRAY_SIZE(magics); i++)
        if ((unsigned long)fs.f_type == magics[i])
            return true;
    return false;
}

static unsigned tree_device_index(struct tree *tree, uint32_t major, uint32_t minor)
{
    unsigned i = 0;

    while (i < tree->device_count &&
           (tree->devices[i].major != major || tree->devices[i].minor != minor))
        i++;
    if (i == tree->device_count && i < TREE_DEVICES) {
        tree->devices[i].major = major;
        tree->devices[i].minor = minor;
        tree->device_count++;
    }
    return i;
}

uint64_t tree_ino(struct tree *tree, const struct identity *identity, uint64_t ino)
{
    return ino ^ (uint64_t)tree_device_index(tree, identity->dev_major, identity->dev_minor)
                     << DEVICE_SHIFT;
}

/*
 * The path to the node from its nearest ancestor that has a cached descriptor, which becomes
 * `*ret_base`. Built backwards from the end of `path`. NULL: too long, or the node has no name.
 */
static const char *tree_build_path(const struct node *node, char path[PATH_MAX],
                                   const struct node **ret_base)
{
    char *start = path + PATH_MAX - 1;

    *start = '\0';
    do {
        size_t length = node->name ? strlen(node->name) : PATH_MAX;

        if (length + 1 > (size_t)(start - path))
            return NULL;
        if (*start)
            *--start = '/';
        start -= length;
        memcpy(start, node->name, length);
        node = node->parent;
    } while (node->fd < 0);
    *ret_base = node;
    return start;
}

static bool tree_on_device(const struct statx *attr, const struct identity *identity)
{
    return attr->stx_dev_major == identity->dev_major && attr->stx_dev_minor == identity->dev_minor;
}

/*
 * Checks that `fd` is the node's file (else -ESTALE) and gets its attributes. Also repeats the
 * check for pseudo filesystems, as the `hidden` of a loaded node cannot be trusted.
 */
static int tree_verify(const struct tree *tree, const struct node *node, int fd, struct statx *ret)
{
    int error = tree_statx(fd, "", ret);

    if (error)
        return error;
    if (!node_matches(node, ret))
        return -ESTALE;
    if (tree_on_device(ret, &tree->nodes.root->identity))
        return 0;
    return tree_is_pseudo_fs(fd) ? -EACCES : 0;
}

/* Opens the node by its path. The caller owns the descriptor. */
static int tree_open_node(const struct tree *tree, const struct node *node, uint64_t flags,
                          struct statx *attr)
{
    char buffer[PATH_MAX];
    const struct node *base;
    const char *path = tree_build_path(node, buffer, &base);
    cleanup_close int fd = path ? tree_openat2(base->fd, path, flags) : -ESTALE;
    int error;

    if (fd < 0) /* no longer in its place */
        return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
    error = tree_verify(tree, node, fd, attr);
    return error ? error : take_fd(&fd);
}

int tree_directory_fd(struct tree *tree, struct node *node)
{
    struct statx attr;
    int fd;

    if (node->hidden)
        return -EACCES;
    if (!S_ISDIR(node->identity.type))
        return -ENOTDIR;
    if (node->fd >= 0) {
        nodes_mark_used(&tree->nodes, node);
        return node->fd;
    }
    fd = tree_open_node(tree, node, O_DIRECTORY, &attr);
    if (fd >= 0)
        nodes_cache_fd(&tree->nodes, node, fd);
    return fd;
}

/* A descriptor of the node that is already open, or -1. */
static int tree_open_fd(const struct node *node)
{
    for (const struct handle *handle = node->handles; handle; handle = handle->next)
        if (handle->fd >= 0)
            return handle->fd;
    return node->fd;
}

int tree_open_path(struct tree *tree, struct node *node, struct statx *attr)
{
    struct statx unused;
    int open_fd = tree_open_fd(node);
    int fd, error;

    if (node->hidden)
        return -EACCES;
    if (open_fd < 0)
        return tree_open_node(tree, node, 0, attr ? attr : &unused);
    fd = fcntl(open_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    error = attr ? tree_statx(fd, "", attr) : 0;
    if (!error)
        return fd;
    close(fd);
    return error;
}

struct fd_name tree_fd_name(int fd)
{
    struct fd_name name;

    snprintf(name.text, sizeof(name.text), "%d", fd);
    return name;
}

int tree_reopen(const struct tree *tree, int path_fd, int flags)
{
    struct fd_name name = tree_fd_name(path_fd);
    int fd = openat(tree->self_fds, name.text, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0 && errno == EAGAIN) /* another process has a lease (F_SETLEASE): it was notified */
        fd = openat(tree->self_fds, name.text, flags | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

int tree_stat(struct tree *tree, struct node *node, struct statx *ret)
{
    int open_fd = tree_open_fd(node);
    int directory, error;

    if (open_fd >= 0)
        return tree_statx(open_fd, "", ret);
    if (!node->parent)
        return -ESTALE;
    directory = tree_directory_fd(tree, node->parent);
    if (directory < 0)
        return directory;
    error = tree_statx(directory, node->name, ret);
    if (error)
        return error == -ENOENT ? -ESTALE : error;
    return node_matches(node, ret) ? 0 : -ESTALE;
}

int tree_stat_name(struct tree *tree, struct node *directory, const char *name, struct statx *ret)
{
    int fd = tree_directory_fd(tree, directory);

    return fd < 0 ? fd : tree_statx(fd, name, ret);
}

/*
 * Is `name` on another filesystem than its directory, and one that must be hidden? If it is on
 * another one, `attr` is updated from the descriptor that was checked.
 */
static bool tree_must_hide(struct tree *tree, const struct node *directory, const char *name,
                           struct statx *attr)
{
    cleanup_close int fd = -1;

    if (tree_on_device(attr, &directory->identity))
        return false;
    fd = tree_openat2(directory->fd, name, 0);
    return fd < 0 || tree_statx(fd, "", attr) || tree_is_pseudo_fs(fd) ||
           tree_device_index(tree, attr->stx_dev_major, attr->stx_dev_minor) == TREE_DEVICES;
}

int tree_lookup(struct tree *tree, struct node *directory, const char *name, struct node **ret,
                struct statx *attr)
{
    bool hidden;
    int fd, error;

    if (!node_name_valid(name))
        return strlen(name) > NAME_MAX ? -ENAMETOOLONG : -EINVAL;
    fd = tree_directory_fd(tree, directory);
    if (fd < 0)
        return fd;
    error = tree_statx(fd, name, attr);
    if (error)
        return error;
    hidden = tree_must_hide(tree, directory, name, attr);
    error = nodes_insert(&tree->nodes, ret, attr, directory, name);
    if (!error)
        (*ret)->hidden = hidden;
    return error;
}

static int tree_open_root(struct tree *tree, const char *path, unsigned directories)
{
    cleanup_close int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct statx attr;
    int probe, error;

    if (fd < 0)
        return log_error(errno, "share %s", path);
    if (tree_is_pseudo_fs(fd))
        return log_refuse(EINVAL, "share %s: pseudo filesystems such as /proc are not shared",
                          path);
    probe = tree_openat2(fd, ".", 0);
    if (probe < 0)
        return log_error(
            -probe, "share %s%s", path,
            probe == -ENOSYS || probe == -EPERM
                ? ": needs openat2() (Linux 5.6 or later; a container's seccomp filter "
                  "must allow it)"
                : "");
    close(probe);
    if ((error = tree_statx(fd, "", &attr)) ||
        (error = nodes_init(&tree->nodes, &attr, fd, directories)))
        return log_error(-error, "share %s", path);
    tree_device_index(tree, attr.stx_dev_major, attr.stx_dev_minor);
    take_fd(&fd);
    return 0;
}

int tree_open(struct tree *tree, const char *path, unsigned directories)
{
    int error;

    *tree = (struct tree){ .self_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC) };
    if (tree->self_fds < 0)
        return log_error(errno, "share %s: /proc/self/fd", path);
    error = tree_open_root(tree, path, directories);
    if (error)
        close(tree->self_fds);
    return error;
}

void tree_close(struct tree *tree)
{
    nodes_finish(&tree->nodes);
    close(tree->self_fds);
}

void tree_state(struct tree *tree, struct state *s)
{
    /* Not the root's, which may change. The others keep their index: inode numbers contain it. */
    uint32_t others = state_count(s, "devices", tree->device_count - 1, TREE_DEVICES - 1);

    for (uint32_t i = 1; i <= others; i++) {
        state_u32(s, "major", &tree->devices[i].major);
        state_u32(s, "minor", &tree->devices[i].minor);
    }
    if (s->loading)
        tree->device_count = others + 1;
    nodes_state(&tree->nodes, s);
}
