/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/fs/share_internal.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

/* Without set-user-ID and, for files, set-group-ID: users of the host may run these files. */
#define MODE_BITS           01777u
#define DIRECTORY_MODE_BITS 03777u

/* The node and descriptor of the directory for `name`. The descriptor belongs to the tree. */
static int share_parent_fd(struct share *share, uint64_t parent, const char *name,
                           struct node **ret)
{
    if (!node_name_valid(name))
        return -EINVAL;
    *ret = share_find_node(share, parent);
    return *ret ? tree_directory_fd(&share->tree, *ret) : -ESTALE;
}

/* The group of a new file; -1: the kernel gives it its directory's, by the set-group-ID bit. */
static gid_t share_new_group(int directory, struct share_user user)
{
    struct stat stat;

    return fstat(directory, &stat) == 0 && stat.st_mode & S_ISGID ? (gid_t)-1 : user.gid;
}

/* Sets the owner of a new file, if running as root, and looks it up. */
static int share_finish_new(struct share *share, struct node *parent, const char *name,
                            struct share_user user, struct share_entry *ret)
{
    int directory = tree_directory_fd(&share->tree, parent);

    if (directory < 0)
        return directory;
    if (geteuid() == 0 && fchownat(directory, name, user.uid, share_new_group(directory, user),
                                   AT_SYMLINK_NOFOLLOW) < 0)
        log_debug("%s: owner remains root: %s", name, strerror(errno));
    return share_lookup_at(share, parent, name, ret);
}

int share_mkdir(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret)
{
    struct node *node;
    int directory = share_parent_fd(share, parent, name, &node);

    if (directory < 0)
        return directory;
    if (mkdirat(directory, name, mode & DIRECTORY_MODE_BITS) < 0)
        return -errno;
    return share_finish_new(share, node, name, user, ret);
}

int share_symlink(struct share *share, uint64_t parent, const char *name, const char *target,
                  struct share_user user, struct share_entry *ret)
{
    struct node *node;
    int directory = share_parent_fd(share, parent, name, &node);

    if (directory < 0)
        return directory;
    if (symlinkat(target, directory, name) < 0)
        return -errno;
    return share_finish_new(share, node, name, user, ret);
}

/* Creates and opens a regular file, which must not exist. A descriptor, or -errno. */
static int share_create_file(int directory, const char *name, uint32_t flags, mode_t mode)
{
    int fd = openat(directory, name,
                    (int)share_open_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    mode & MODE_BITS);

    return fd < 0 ? -errno : fd;
}

int share_mknod(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret)
{
    struct node *node;
    int directory = share_parent_fd(share, parent, name, &node);
    int fd;

    if (directory < 0)
        return directory;
    if (!S_ISREG(mode))
        return -EPERM;
    fd = share_create_file(directory, name, O_WRONLY, mode);
    if (fd < 0)
        return fd;
    close(fd);
    return share_finish_new(share, node, name, user, ret);
}

/* FUSE_CREATE of a file that exists: looks it up and opens it. */
static int share_open_existing(struct share *share, struct node *parent, const char *name,
                               uint32_t flags, struct share_entry *ret,
                               struct share_opened *ret_opened)
{
    int error = share_lookup_at(share, parent, name, ret);

    if (error)
        return error;
    error = share_open_file(share, ret->node, flags, ret_opened);
    if (error)
        share_forget(share, ret->node, 1);
    return error;
}

int share_create(struct share *share, uint64_t parent, const char *name, uint32_t flags,
                 mode_t mode, struct share_user user, struct share_entry *ret,
                 struct share_opened *ret_opened)
{
    struct node *node;
    int directory = share_parent_fd(share, parent, name, &node);
    cleanup_close int fd = -1;
    int error;

    if (directory < 0)
        return directory;
    fd = share_create_file(directory, name, flags, mode);
    if (fd == -EEXIST && !(flags & O_EXCL))
        return share_open_existing(share, node, name, flags, ret, ret_opened);
    if (fd < 0)
        return fd;
    error = share_finish_new(share, node, name, user, ret);
    if (error)
        return error;
    ret_opened->unchanged = false;
    error =
        share_add_handle(share, share_find_node(share, ret->node), take_fd(&fd), flags, ret_opened);
    if (error)
        share_forget(share, ret->node, 1);
    return error;
}

int share_link(struct share *share, uint64_t id, uint64_t parent, const char *name,
               struct share_entry *ret)
{
    struct node *directory_node, *node = share_find_node(share, id);
    cleanup_close int path_fd = node ? tree_open_path(&share->tree, node, NULL) : -ESTALE;
    struct fd_name old;
    int directory;

    if (path_fd < 0)
        return path_fd;
    directory = share_parent_fd(share, parent, name, &directory_node);
    if (directory < 0)
        return directory;
    old = tree_fd_name(path_fd);
    if (linkat(share->tree.self_fds, old.text, directory, name, AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    return share_lookup_at(share, directory_node, name, ret);
}

int share_unlink(struct share *share, uint64_t parent, const char *name, bool is_directory)
{
    struct node *directory_node, *node;
    int directory = share_parent_fd(share, parent, name, &directory_node);
    struct statx attr;
    int error;

    if (directory < 0)
        return directory;
    error = tree_stat_name(&share->tree, directory_node, name, &attr);
    if (error)
        return error;
    if (unlinkat(directory, name, is_directory ? AT_REMOVEDIR : 0) < 0)
        return -errno;
    node = nodes_find_identity(&share->tree.nodes, &attr);
    if (node)
        nodes_unlink(&share->tree.nodes, node, directory_node, name);
    return 0;
}

/* The node of the file now named `name`; NULL: it has none. */
static struct node *share_find_node_at(struct share *share, struct node *directory,
                                       const char *name)
{
    struct statx attr;

    if (tree_stat_name(&share->tree, directory, name, &attr))
        return NULL;
    return nodes_find_identity(&share->tree.nodes, &attr);
}

int share_rename(struct share *share, uint64_t parent, const char *name, uint64_t new_parent,
                 const char *new_name, uint32_t flags)
{
    struct nodes *nodes = &share->tree.nodes;
    struct node *from, *to, *moved, *other;
    int from_fd = share_parent_fd(share, parent, name, &from);
    int to_fd = share_parent_fd(share, new_parent, new_name, &to);

    if (from_fd < 0 || to_fd < 0)
        return from_fd < 0 ? from_fd : to_fd;
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    moved = share_find_node_at(share, from, name);
    other = share_find_node_at(share, to, new_name);
    /* libc's renameat2() without flags calls renameat(), which the seccomp filter denies. */
    if (syscall(SYS_renameat2, from_fd, name, to_fd, new_name, flags) < 0)
        return -errno;
    if (other)
        nodes_unlink(nodes, other, to, new_name);
    if (moved)
        nodes_move(nodes, moved, to, new_name);
    if (other && flags & RENAME_EXCHANGE)
        nodes_move(nodes, other, from, name);
    return 0;
}

/* Attributes. */

static int share_set_size(struct share *share, const struct node *node, int path_fd,
                          const struct share_change *change)
{
    cleanup_close int opened = -1;
    int fd;

    if (!S_ISREG(node->identity.type))
        return -EINVAL;
    if (change->by_handle)
        fd = share_handle_fd(share_find_handle(share, node->id, change->handle));
    else
        fd = opened = tree_reopen(&share->tree, path_fd, O_WRONLY);
    if (fd < 0)
        return fd;
    return ftruncate(fd, (off_t)change->size) < 0 ? -errno : 0;
}

static int share_set_owner(int path_fd, const struct share_change *change)
{
    uid_t uid = change->set_uid ? change->uid : (uid_t)-1;
    gid_t gid = change->set_gid ? change->gid : (gid_t)-1;

    return fchownat(path_fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int share_set_mode(struct share *share, int path_fd, mode_t mode, mode_t type)
{
    mode_t bits = S_ISDIR(type) ? DIRECTORY_MODE_BITS : MODE_BITS;
    struct fd_name name = tree_fd_name(path_fd);

    return fchmodat(share->tree.self_fds, name.text, mode & bits, 0) < 0 ? -errno : 0;
}

static int share_set_times(int path_fd, const struct share_change *change)
{
    const struct timespec omit = { .tv_nsec = UTIME_OMIT };
    const struct timespec times[2] = { change->set_atime ? change->atime : omit,
                                       change->set_mtime ? change->mtime : omit };

    return utimensat(path_fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int share_setattr(struct share *share, uint64_t id, const struct share_change *change,
                  struct statx *ret)
{
    struct node *node = share_find_node(share, id);
    cleanup_close int path_fd = node ? tree_open_path(&share->tree, node, NULL) : -ESTALE;
    int error = 0;

    if (path_fd < 0)
        return path_fd;
    if (change->set_size)
        error = share_set_size(share, node, path_fd, change);
    if (!error && (change->set_uid || change->set_gid))
        error = share_set_owner(path_fd, change);
    if (!error && change->set_mode) /* after the owner, as chown() clears mode bits */
        error = S_ISLNK(node->identity.type)
                    ? -EOPNOTSUPP
                    : share_set_mode(share, path_fd, change->mode, node->identity.type);
    if (!error && (change->set_atime || change->set_mtime))
        error = share_set_times(path_fd, change);
    return error ? error : share_getattr(share, id, ret);
}

/* Contents. */

ssize_t share_write(struct share *share, uint64_t node, uint64_t id, const struct iovec *iov,
                    unsigned count, uint64_t offset, bool from_cache)
{
    const struct handle *handle = share_find_handle(share, node, id);
    int fd = share_handle_fd(handle);
    ssize_t done;

    if (fd < 0)
        return fd;
    if (offset > INT64_MAX) /* -1 would mean the file position */
        return -EINVAL;
    /* Pages written back from the guest's page cache have a fixed offset even with O_APPEND. */
    done = pwritev2(fd, iov, (int)count, (off_t)offset,
                    handle->flags & O_APPEND && !from_cache ? RWF_APPEND : 0);
    return done < 0 ? -errno : done;
}

int share_fallocate(struct share *share, uint64_t node, uint64_t id, uint64_t offset,
                    uint64_t length, uint32_t mode)
{
    const uint32_t known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    int fd = share_handle_fd(share_find_handle(share, node, id));

    if (fd < 0)
        return fd;
    if (mode & ~known)
        return -EOPNOTSUPP;
    return fallocate(fd, (int)mode, (off_t)offset, (off_t)length) < 0 ? -errno : 0;
}

int share_fsync(struct share *share, uint64_t node, uint64_t id, bool data_only)
{
    int fd = share_handle_fd(share_find_handle(share, node, id));

    if (fd < 0)
        return fd;
    return (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}
