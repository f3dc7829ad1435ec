/* SPDX-License-Identifier: MIT */
#include "devices/fs/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "devices/fs/files.h"
#include "devices/fs/share.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/clock.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define STATX_WANTED (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
#define DEVICES_MAX  (1u << 20) /* in a saved state */

struct tree_device {
    uint32_t major, minor;
    bool remote; /* its attributes may have to be fetched; not saved: true is never wrong */
};

static int tree_openat2(const struct tree *tree, int base, const char *path, uint64_t flags)
{
    const struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC | flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };

    return (int)TREE_CALL(tree, syscall(SYS_openat2, base, path, &how, sizeof(how)));
}

static int tree_statx(const struct tree *tree, int fd, const char *name, int flags,
                      struct statx *ret)
{
    flags |= AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
    return (int)TREE_CALL(tree, statx(fd, name, flags, STATX_WANTED, ret));
}

/* The type of the filesystem, as in statfs(2); 0: unknown. */
static unsigned long tree_fs_type(const struct tree *tree, int fd)
{
    struct statfs fs;

    return TREE_CALL(tree, fstatfs(fd, &fs)) < 0 ? 0 : (unsigned long)fs.f_type;
}

static bool tree_is_one_of(unsigned long type, const unsigned long *types, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (types[i] == type)
            return true;
    return false;
}

/* A pseudo filesystem must not be shared. */
static bool tree_is_pseudo_fs(unsigned long type)
{
    static const unsigned long types[] = {
        0 /* unknown */,
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

    return tree_is_one_of(type, types, ARRAY_SIZE(types));
}

static bool tree_is_remote_fs(unsigned long type)
{
    static const unsigned long types[] = {
        NFS_SUPER_MAGIC,         SMB_SUPER_MAGIC,  0xff534d42 /* cifs */, 0xfe534d42 /* smb2 */,
        FUSE_SUPER_MAGIC,        V9FS_MAGIC,       AFS_SUPER_MAGIC,       AFS_FS_MAGIC,
        CEPH_SUPER_MAGIC,        CODA_SUPER_MAGIC, OCFS2_SUPER_MAGIC,     0x01161970 /* gfs2 */,
        0x0bd00bd0 /* lustre */,
    };

    return tree_is_one_of(type, types, ARRAY_SIZE(types));
}

/* The device's index in the table; UINT32_MAX: it is not there. */
static uint32_t tree_find_device(const struct tree *tree, uint32_t major, uint32_t minor)
{
    for (uint32_t i = 0; i < tree->device_count; i++)
        if (tree->devices[i].major == major && tree->devices[i].minor == minor)
            return i;
    return UINT32_MAX;
}

static bool tree_add_device(struct tree *tree, uint32_t major, uint32_t minor, bool remote)
{
    struct tree_device *devices =
        realloc(tree->devices, (tree->device_count + 1) * sizeof(*devices));

    if (!devices)
        return false;
    devices[tree->device_count++] = (struct tree_device){ major, minor, remote };
    tree->devices = devices;
    return true;
}

/*
 * The device's index changes the highest bits of the number, which inode numbers do not use: the
 * lowest bit of the index the highest bit, and so on.
 */
uint64_t tree_ino(struct tree *tree, const struct identity *identity, uint64_t ino)
{
    uint32_t index = tree_find_device(tree, identity->dev_major, identity->dev_minor);

    for (unsigned bit = 63; index; index >>= 1)
        ino ^= (uint64_t)(index & 1) << bit--;
    return ino;
}

/*
 * The path to the node from its nearest ancestor that has a cached descriptor, which becomes
 * `*ret`. Built backwards from the end of `path`. NULL: too long, `*ret` must be opened first; or
 * `*ret` is NULL, as the node has no name.
 */
static const char *tree_build_path(struct node *node, char path[PATH_MAX], struct node **ret)
{
    char *start = path + PATH_MAX - 1;

    *start = '\0';
    do {
        size_t length = node->name ? strlen(node->name) : 0;

        *ret = node->name ? node : NULL;
        if (!node->name || length + 1 > (size_t)(start - path))
            return NULL;
        if (*start)
            *--start = '/';
        start -= length;
        memcpy(start, node->name, length);
        node = node->parent;
    } while (node->fd < 0);
    *ret = node;
    return start;
}

static bool tree_on_device(const struct statx *attr, const struct identity *identity)
{
    return attr->stx_dev_major == identity->dev_major && attr->stx_dev_minor == identity->dev_minor;
}

/* One of the node's open files that has a descriptor of what is in its place; NULL: none. */
static struct open_file *tree_find_open(const struct node *node)
{
    struct open_file *file = node->files;

    while (file && (file->fd < 0 || file->former))
        file = file->next;
    return file;
}

/* Has the guest a regular file open? Then the node keeps that file when another takes its place. */
static bool tree_is_open(const struct node *node)
{
    return S_ISREG(node->identity.type) && tree_find_open(node);
}

/* The error for a node whose file is not in its place. An overlay passes ESTALE to its users. */
static int tree_stale(const struct tree *tree)
{
    return tree->nodes.by_place ? -ENOENT : -ESTALE;
}

/* Checks that the file found in the node's place is the node's. */
static int tree_match(struct tree *tree, struct node *node, const struct statx *attr)
{
    if (node_matches(node, attr))
        return 0;
    if (!tree->nodes.by_place || !node_has_type(node, attr) || tree_is_open(node) ||
        !nodes_rebind(&tree->nodes, node, attr))
        return tree_stale(tree);
    if (S_ISDIR(node->identity.type))
        absent_announce(&tree->absent);
    return 0;
}

/*
 * Checks that `fd` is the node's file and gets its attributes. Also repeats the check for pseudo
 * filesystems, as the `hidden` of a loaded node cannot be trusted.
 */
static int tree_verify(struct tree *tree, struct node *node, int fd, struct statx *ret)
{
    int error = tree_statx(tree, fd, "", 0, ret);

    /* The guest knows the size of another file. On ESTALE Linux looks up again, then opens again.
     */
    if (!error && S_ISREG(node->identity.type) && !node_matches(node, ret))
        error = -ESTALE;
    if (!error)
        error = tree_match(tree, node, ret);
    if (error || tree_on_device(ret, &tree->nodes.root->identity))
        return error;
    return tree_is_pseudo_fs(tree_fs_type(tree, fd)) ? -EACCES : 0;
}

/* Opens `path` from `base`, which leads to `node`. The caller owns the descriptor. */
static int tree_open_at(struct tree *tree, struct node *base, const char *path, struct node *node,
                        uint64_t flags, struct statx *attr)
{
    cleanup_close int fd = -1;
    int error;

    NODE_SCOPE(&tree->nodes, base);
    NODE_SCOPE(&tree->nodes, node);
    fd = tree_openat2(tree, base->fd, path, flags);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? tree_stale(tree) : fd;
    error = tree_verify(tree, node, fd, attr);
    return error ? error : take_fd(&fd);
}

static void tree_cache_fd(struct tree *tree, struct node *node, int fd)
{
    if (node->fd < 0)
        nodes_cache_fd(&tree->nodes, node, fd);
    else
        close(fd); /* another thread was faster */
}

/* Opens the node by its path: if that is too long, in steps. The caller owns the descriptor. */
static int tree_open_by_path(struct tree *tree, struct node *node, uint64_t flags,
                             struct statx *attr)
{
    UNINITIALIZED char buffer[PATH_MAX];
    struct statx unused;

    for (;;) {
        struct node *step = node, *base;
        const char *path;
        int fd;

        while (!(path = tree_build_path(step, buffer, &base)) && base)
            step = base;
        if (!path)
            return tree_stale(tree);
        if (step == node)
            return tree_open_at(tree, base, path, node, flags, attr);
        NODE_SCOPE(&tree->nodes, step);
        fd = tree_open_at(tree, base, path, step, O_DIRECTORY, &unused);
        if (fd < 0)
            return fd;
        tree_cache_fd(tree, step, fd);
    }
}

/* The same. A path that was overtaken by a rename of the guest is no longer the node's. */
static int tree_open_node(struct tree *tree, struct node *node, uint64_t flags, struct statx *attr)
{
    uint32_t renames;
    int fd;

    do {
        renames = tree->renames;
        fd = tree_open_by_path(tree, node, flags, attr);
    } while (fd == -ESTALE && tree->renames != renames);
    return fd;
}

/* A descriptor of the node that is already open, or -1. */
static int tree_open_fd(const struct node *node)
{
    const struct open_file *file = tree_find_open(node);

    return file ? file->fd : node->fd;
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
    fd = tree_open_fd(node);
    fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : tree_open_node(tree, node, O_DIRECTORY, &attr);
    if (fd < 0)
        return fd;
    tree_cache_fd(tree, node, fd);
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
    error = attr ? tree_statx(tree, fd, "", 0, attr) : 0;
    if (!error)
        return fd;
    close(fd);
    return error;
}

void tree_begin_rename(struct tree *tree, struct node *node)
{
    struct statx unused;
    int fd;

    files_hold(tree, node);
    if (S_ISDIR(node->identity.type)) {
        tree_directory_fd(tree, node);
        return;
    }
    fd = node->hidden || tree_open_fd(node) >= 0 ? -1 : tree_open_node(tree, node, 0, &unused);
    if (fd >= 0)
        tree_cache_fd(tree, node, fd);
}

void tree_end_rename(struct tree *tree, struct node *node)
{
    tree->renames++;
    if (!S_ISDIR(node->identity.type))
        nodes_retire_fd(&tree->nodes, node);
    files_unhold(node);
}

struct fd_name tree_fd_name(int fd)
{
    struct fd_name name;

    snprintf(name.text, sizeof(name.text), "%d", fd);
    return name;
}

/*
 * Without O_NONBLOCK, so that it waits for the holder of a lease (fcntl(2)): only called for
 * regular files and directories, which an open() of a pipe or device would not be.
 */
int tree_reopen(const struct tree *tree, int path_fd, int flags)
{
    struct fd_name name = tree_fd_name(path_fd);

    return (int)TREE_CALL(tree, openat(tree->self_fds, name.text, flags | O_CLOEXEC | O_NOCTTY));
}

int tree_open_file(struct tree *tree, struct node *node, int flags, struct statx *attr)
{
    cleanup_close int path_fd = tree_open_path(tree, node, attr);

    return path_fd < 0 ? path_fd : tree_reopen(tree, path_fd, flags);
}

static int tree_stat_open(struct tree *tree, struct open_file *file, struct statx *ret)
{
    FILE_SCOPE(tree, file);
    return tree_statx(tree, file->fd, "", 0, ret);
}

static int tree_stat_once(struct tree *tree, struct node *node, struct statx *ret)
{
    struct open_file *file = tree_find_open(node);
    struct node *parent = node->parent;
    char name[NAME_MAX + 1];
    int directory, error;

    if (file)
        return tree_stat_open(tree, file, ret);
    if (node->fd >= 0)
        return tree_statx(tree, node->fd, "", 0, ret);
    if (!parent)
        return tree_stale(tree);
    NODE_SCOPE(&tree->nodes, parent);
    strcpy(name, node->name); /* another request may rename the node */
    directory = tree_directory_fd(tree, parent);
    if (directory < 0)
        return directory;
    error = tree_statx(tree, directory, name, 0, ret);
    if (error)
        return error == -ENOENT ? tree_stale(tree) : error;
    return tree_match(tree, node, ret);
}

int tree_stat(struct tree *tree, struct node *node, struct statx *ret)
{
    uint32_t renames;
    int error;

    do {
        renames = tree->renames;
        error = tree_stat_once(tree, node, ret);
    } while (error == -ESTALE && tree->renames != renames);
    return error;
}

int tree_stat_name(struct tree *tree, struct node *directory, const char *name, struct statx *ret)
{
    int fd = tree_directory_fd(tree, directory);

    return fd < 0 ? fd : tree_statx(tree, fd, name, 0, ret);
}

static bool tree_is_same_directory(const struct statx *a, const struct statx *b)
{
    return a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major &&
           a->stx_dev_minor == b->stx_dev_minor && a->stx_mnt_id == b->stx_mnt_id;
}

int tree_depth(const struct tree *tree, int directory)
{
    cleanup_close int fd = fcntl(directory, F_DUPFD_CLOEXEC, 0);
    struct statx attr, below = { .stx_ino = 0 };
    int error = fd < 0 ? -errno : tree_statx(tree, fd, "", 0, &attr);

    for (int depth = 0; !error; depth++) {
        int above;

        if (node_matches(tree->nodes.root, &attr))
            return depth;
        if (tree_is_same_directory(&attr, &below)) /* "/" */
            return -ESTALE;
        above = (int)TREE_CALL(tree, openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (above < 0)
            return above;
        close(fd);
        fd = above;
        below = attr;
        error = tree_statx(tree, fd, "", 0, &attr);
    }
    return error;
}

/* Sees to it that the file's device is in the table. -EACCES: it is a pseudo filesystem. */
static int tree_enter_device(struct tree *tree, int fd, const struct statx *attr)
{
    unsigned long type = tree_fs_type(tree, fd);

    if (tree_is_pseudo_fs(type))
        return -EACCES;
    if (tree_find_device(tree, attr->stx_dev_major, attr->stx_dev_minor) == UINT32_MAX &&
        !tree_add_device(tree, attr->stx_dev_major, attr->stx_dev_minor, tree_is_remote_fs(type)))
        return -ENOMEM;
    return 0;
}

/*
 * If `name` is on another filesystem than its directory, which may have to be hidden: updates
 * `attr` from the descriptor that was checked. Returns 0 or -errno.
 */
static int tree_cross(struct tree *tree, const struct node *directory, int directory_fd,
                      const char *name, struct statx *attr, bool *ret_hidden)
{
    cleanup_close int fd = -1;
    int error;

    *ret_hidden = false;
    if (tree_on_device(attr, &directory->identity))
        return 0;
    fd = tree_openat2(tree, directory_fd, name, 0);
    error = fd < 0 ? fd : tree_statx(tree, fd, "", 0, attr);
    if (!error)
        error = tree_enter_device(tree, fd, attr);
    *ret_hidden = error && error != -ENOMEM;
    return error == -ENOMEM ? error : 0;
}

/* Attributes of a name. If it is absent, its directory is watched from then on. */
static int tree_stat_watched(struct tree *tree, struct node *directory, int fd, const char *name,
                             int flags, struct statx *ret)
{
    int error = tree_statx(tree, fd, name, flags, ret);

    if (error == -ENOENT && absent_watch(&tree->absent, fd, &directory->absent))
        error = tree_statx(tree, fd, name, flags, ret);
    return error;
}

/*
 * Attributes for a file that is not there: enough for the guest to keep the node. It is told to
 * drop its names, at most once a second for each node, as some names are in use and remain.
 */
static void tree_invent(struct tree *tree, struct node *node, struct statx *ret)
{
    uint32_t now = (uint32_t)(clock_now_ms() / 1000) + 1;

    if (node->missed != now)
        absent_announce(&tree->absent);
    node->missed = now;
    *ret = (struct statx){ .stx_mode = (uint16_t)(node->identity.type | 0755),
                           .stx_nlink = 1,
                           .stx_ino = node->identity.ino };
}

/*
 * With `by_place`: the node that the guest already has in this place, if it must not get another
 * one or none. `error` and `attr` are what the host says of the place.
 */
static struct node *tree_lookup_held(struct tree *tree, struct node *directory, const char *name,
                                     int error, struct statx *attr, bool *ret_gone)
{
    struct node *node = nodes_find_place(&tree->nodes, directory, name);

    if (!node)
        return NULL;
    NODE_SCOPE(&tree->nodes, node);
    *ret_gone = error == -ENOENT || (!error && !node_has_type(node, attr));
    if (*ret_gone) {
        tree_invent(tree, node, attr);
    } else if (error || !tree_is_open(node) || node_matches(node, attr) ||
               tree_stat(tree, node, attr)) {
        return NULL;
    }
    node->lookups++;
    return node;
}

static int tree_lookup_flags(struct tree *tree, struct node *directory, const char *name, int flags,
                             struct node **ret, struct statx *attr, bool *ret_gone)
{
    struct nodes *nodes = &tree->nodes;
    bool hidden;
    int fd, error;

    *ret_gone = false;
    if (!node_name_valid(name))
        return strlen(name) > NAME_MAX ? -ENAMETOOLONG : -EINVAL;
    fd = tree_directory_fd(tree, directory);
    if (fd < 0)
        return fd;
    error = tree_stat_watched(tree, directory, fd, name, flags, attr);
    if (nodes->by_place && (*ret = tree_lookup_held(tree, directory, name, error, attr, ret_gone)))
        return 0;
    if (error)
        return error;
    if (flags & AT_STATX_DONT_SYNC && !tree_on_device(attr, &directory->identity))
        return -EAGAIN;
    error = tree_cross(tree, directory, fd, name, attr, &hidden);
    if (!error)
        error = nodes_insert(nodes, ret, attr, directory, name);
    if (error)
        return error;
    (*ret)->hidden = hidden;
    error = nodes->by_place ? tree_match(tree, *ret, attr) : 0;
    if (error) { /* it changed once more, meanwhile */
        absent_announce(&tree->absent);
        nodes_forget(nodes, *ret, 1);
    }
    return error;
}

int tree_lookup(struct tree *tree, struct node *directory, const char *name, struct node **ret,
                struct statx *attr, bool *ret_gone)
{
    return tree_lookup_flags(tree, directory, name, 0, ret, attr, ret_gone);
}

/* A local filesystem never waits for attributes, but what is mounted on it may do so. */
int tree_lookup_entry(struct tree *tree, struct node *directory, const char *name,
                      struct node **ret, struct statx *attr, bool *ret_gone)
{
    const struct identity *identity = &directory->identity;
    uint32_t index = tree_find_device(tree, identity->dev_major, identity->dev_minor);
    bool remote = index == UINT32_MAX || tree->devices[index].remote;

    return tree_lookup_flags(tree, directory, name, remote ? 0 : AT_STATX_DONT_SYNC, ret, attr,
                             ret_gone);
}

/* Old containers forbid system calls that are newer than their lists. */
static int tree_cannot_open(const char *path, int error, const char *call)
{
    if (error != -ENOSYS && error != -EPERM)
        return log_error(-error, "share %s", path);
    return log_error(-error, "share %s: needs %s; a container's seccomp filter must allow it)",
                     path, call);
}

static int tree_open_root(struct tree *tree, const struct share_options *options,
                          struct share_budget *budget)
{
    const char *path = options->path;
    cleanup_close int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    unsigned long type;
    struct statx attr;
    int probe, error;

    if (fd < 0)
        return log_error(errno, "share %s", path);
    type = tree_fs_type(tree, fd);
    if (tree_is_pseudo_fs(type))
        return log_refuse(EINVAL, "share %s: pseudo filesystems such as /proc are not shared",
                          path);
    probe = tree_openat2(tree, fd, ".", 0);
    if (probe < 0)
        return tree_cannot_open(path, probe, "openat2() (Linux 5.6 or later");
    close(probe);
    error = tree_statx(tree, fd, "", 0, &attr);
    if (error)
        return tree_cannot_open(path, error, "statx() (Linux 4.11 or later");
    if (!tree_add_device(tree, attr.stx_dev_major, attr.stx_dev_minor, tree_is_remote_fs(type)))
        error = -ENOMEM;
    if (error || (error = nodes_init(&tree->nodes, &attr, fd, options->overlaid, budget)))
        return log_error(-error, "share %s", path);
    take_fd(&fd);
    return 0;
}

int tree_open(struct tree *tree, const struct share_options *options, struct share_budget *budget,
              struct loop *loop)
{
    int error;

    *tree = (struct tree){ .loop = loop,
                           .self_fds = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC) };
    if (tree->self_fds < 0)
        return log_error(errno, "share %s: /proc/self/fd", options->path);
    error = tree_open_root(tree, options, budget);
    if (!error) {
        error = absent_init(&tree->absent, loop, options->overlaid ? options->names_fd : -1);
        if (!error)
            return 0;
        nodes_finish(&tree->nodes);
    }
    free(tree->devices);
    close(tree->self_fds);
    return error;
}

void tree_close(struct tree *tree)
{
    absent_finish(&tree->absent);
    nodes_finish(&tree->nodes);
    free(tree->devices);
    close(tree->self_fds);
}

static void tree_device_state(struct tree *tree, uint32_t index, struct state *s)
{
    struct tree_device device = { .remote = true };

    if (!s->loading)
        device = tree->devices[index];
    state_u32(s, "major", &device.major);
    state_u32(s, "minor", &device.minor);
    if (s->loading && !s->error && !tree_add_device(tree, device.major, device.minor, true))
        state_fail(s, "out of memory");
}

void tree_state(struct tree *tree, struct state *s)
{
    /* Not the root's, which may change. The others keep their index: inode numbers contain it. */
    uint32_t others = state_count(s, "devices", tree->device_count - 1, DEVICES_MAX);

    for (uint32_t i = 1; i <= others && !s->error; i++)
        tree_device_state(tree, i, s);
    nodes_state(&tree->nodes, s);
}
