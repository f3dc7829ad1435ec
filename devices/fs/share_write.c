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

/* Without set-user-ID and, for files, set-group-ID: see owner.h. */
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

/* `mode` with the user's umask applied. */
static mode_t share_new_mode(const struct share *share, int directory, mode_t mode,
                             struct share_user user)
{
    if (mode & user.umask && !(share->xattrs && share_has_default_acl(directory)))
        mode &= ~user.umask;
    return mode;
}

/* Sets the owner of a new file, and looks it up. */
static int share_finish_new(struct share *share, struct node *parent, const char *name, mode_t mode,
                            struct share_user user, struct share_entry *ret)
{
    int directory = tree_directory_fd(&share->tree, parent);

    if (directory < 0)
        return directory;
    owners_created(&share->owners, directory, name, &user, mode);
    return share_lookup_at(share, parent, name, ret);
}

int share_mkdir(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret)
{
    struct node *node;
    int directory = share_parent_fd(share, parent, name, &node);

    if (directory < 0)
        return directory;
    mode = share_new_mode(share, directory, mode, user);
    if (mkdirat(directory, name, mode & DIRECTORY_MODE_BITS) < 0)
        return -errno;
    return share_finish_new(share, node, name, mode, user, ret);
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
    return share_finish_new(share, node, name, 0, user, ret);
}

/* Creates and opens a regular file, which must not exist. A descriptor, or -errno. */
static int share_create_file(int directory, const char *name, uint32_t flags, mode_t mode)
{
    int fd = openat(directory, name,
                    (int)share_open_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    mode & MODE_BITS);

    return fd < 0 ? -errno : fd;
}

/*
 * A pipe or socket is a name only: each kernel makes its own of it when it is opened, and this
 * process never opens it. A device would be the host's.
 */
static int share_make_node(int directory, const char *name, mode_t mode)
{
    cleanup_close int fd = -1;

    if (S_ISFIFO(mode) || S_ISSOCK(mode))
        return mknodat(directory, name, mode & (S_IFMT | MODE_BITS), 0) < 0 ? -errno : 0;
    if (!S_ISREG(mode))
        return -EPERM;
    fd = share_create_file(directory, name, O_WRONLY, mode);
    return fd < 0 ? fd : 0;
}

int share_mknod(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret)
{
    struct node *node;
    int directory = share_parent_fd(share, parent, name, &node);
    int error;

    if (directory < 0)
        return directory;
    mode = share_new_mode(share, directory, mode, user);
    error = share_make_node(directory, name, mode);
    return error ? error : share_finish_new(share, node, name, mode, user, ret);
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
    mode = share_new_mode(share, directory, mode, user);
    fd = share_create_file(directory, name, flags, mode);
    if (fd == -EEXIST && !(flags & O_EXCL))
        return share_open_existing(share, node, name, flags, ret, ret_opened);
    if (fd < 0)
        return fd;
    error = share_finish_new(share, node, name, mode, user, ret);
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

/* A name of the file is gone. If it was the last, nobody asks for its owner: unless it is open. */
static void share_forget_owner(struct share *share, const struct node *node,
                               const struct statx *attr)
{
    if ((attr->stx_nlink == 1 || S_ISDIR(attr->stx_mode)) && !(node && node->handles))
        owners_forget(&share->owners, attr);
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
    share_forget_owner(share, node, &attr);
    if (node)
        nodes_unlink(&share->tree.nodes, node, directory_node, name);
    return 0;
}

/* A name in a directory, and the file that has it. */
struct share_place {
    struct node *directory, *node; /* NULL: the file has no node */
    const char *name;
    int fd; /* the directory's; belongs to the tree */
    struct statx attr;
};

/* Finds out what is at `place`, before a rename. The file need not exist. */
static bool share_look_at(struct share *share, struct share_place *place)
{
    if (tree_stat_name(&share->tree, place->directory, place->name, &place->attr))
        return false;
    place->node = nodes_find_identity(&share->tree.nodes, &place->attr);
    return true;
}

/* `from` was renamed to `to`, and if `swapped` also the other way round. */
static void share_note_rename(struct share *share, struct share_place *from, struct share_place *to,
                              bool swapped)
{
    struct nodes *nodes = &share->tree.nodes;

    if (to->node)
        nodes_unlink(nodes, to->node, to->directory, to->name);
    if (from->node)
        nodes_move(nodes, from->node, to->directory, to->name);
    if (to->node && swapped)
        nodes_move(nodes, to->node, from->directory, from->name);
}

int share_rename(struct share *share, uint64_t parent, const char *name, uint64_t new_parent,
                 const char *new_name, uint32_t flags)
{
    struct share_place from = { .name = name }, to = { .name = new_name };
    bool swap = flags & RENAME_EXCHANGE, replaces;

    from.fd = share_parent_fd(share, parent, name, &from.directory);
    to.fd = share_parent_fd(share, new_parent, new_name, &to.directory);
    if (from.fd < 0 || to.fd < 0)
        return from.fd < 0 ? from.fd : to.fd;
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    share_look_at(share, &from);
    replaces = share_look_at(share, &to) && !swap;
    /* libc's renameat2() without flags calls renameat(), which the seccomp filter denies. */
    if (syscall(SYS_renameat2, from.fd, name, to.fd, new_name, flags) < 0)
        return -errno;
    if (replaces)
        share_forget_owner(share, to.node, &to.attr);
    share_note_rename(share, &from, &to, swap);
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
    if (ftruncate(fd, (off_t)change->size) < 0)
        return -errno;
    if (change->by_user)
        owners_written(&share->owners, fd);
    return 0;
}

static int share_set_mode(struct share *share, int path_fd, mode_t mode, mode_t type)
{
    mode_t bits = S_ISDIR(type) ? DIRECTORY_MODE_BITS : MODE_BITS;
    struct fd_name name = tree_fd_name(path_fd);

    if (fchmodat(share->tree.self_fds, name.text, mode & bits, 0) < 0)
        return -errno;
    return owners_set_mode(&share->owners, path_fd, mode);
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
        error = owners_set(&share->owners, path_fd, change->set_uid ? change->uid : OWNER_KEEP,
                           change->set_gid ? change->gid : OWNER_KEEP);
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

void share_written_by_user(struct share *share, uint64_t node, uint64_t id)
{
    int fd = share_handle_fd(share_find_handle(share, node, id));

    if (fd >= 0)
        owners_written(&share->owners, fd);
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
