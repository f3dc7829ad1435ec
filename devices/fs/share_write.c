/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/fs/share_inside.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"

/* No set-ID bits: other users of the host may run what the guest leaves there. */
#define MODE_BITS           01777u
#define DIRECTORY_MODE_BITS 03777u

/* Where something is to be made or removed: the directory's descriptor, which stays the tree's. */
static int share_place(struct share *share, uint64_t parent, const char *name, struct node **ret)
{
    if (!node_name_ok(name))
        return -EINVAL;
    *ret = share_node(share, parent);
    return *ret ? tree_directory(&share->tree, *ret) : -ESTALE;
}

/* In a directory with the set-group-ID bit what is made has the directory's group. */
static gid_t share_group(int directory, struct share_user user)
{
    struct stat stat;

    return fstat(directory, &stat) == 0 && stat.st_mode & S_ISGID ? (gid_t)-1 : user.gid;
}

/* Gives what was just made to who asked for it, and looks it up. */
static int share_made(struct share *share, struct node *parent, const char *name,
                      struct share_user user, struct share_entry *ret)
{
    int directory = tree_directory(&share->tree, parent);

    if (directory < 0)
        return directory;
    if (geteuid() == 0 &&
        fchownat(directory, name, user.uid, share_group(directory, user), AT_SYMLINK_NOFOLLOW) < 0)
        log_debug("%s belongs to root: %s", name, strerror(errno));
    return share_meet(share, parent, name, ret);
}

int share_mkdir(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret)
{
    struct node *node;
    int directory = share_place(share, parent, name, &node);

    if (directory < 0)
        return directory;
    if (mkdirat(directory, name, mode & DIRECTORY_MODE_BITS) < 0)
        return -errno;
    return share_made(share, node, name, user, ret);
}

int share_symlink(struct share *share, uint64_t parent, const char *name, const char *target,
                  struct share_user user, struct share_entry *ret)
{
    struct node *node;
    int directory = share_place(share, parent, name, &node);

    if (directory < 0)
        return directory;
    if (symlinkat(target, directory, name) < 0)
        return -errno;
    return share_made(share, node, name, user, ret);
}

/* A new regular file, open. */
static int share_make_file(int directory, const char *name, uint32_t flags, mode_t mode)
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
    int directory = share_place(share, parent, name, &node);
    int fd;

    if (directory < 0)
        return directory;
    if (!S_ISREG(mode))
        return -EPERM;
    fd = share_make_file(directory, name, O_WRONLY, mode);
    if (fd < 0)
        return fd;
    close(fd);
    return share_made(share, node, name, user, ret);
}

/* Somebody was faster, or the guest did not know: it is opened as it is. */
static int share_open_existing(struct share *share, struct node *parent, const char *name,
                               uint32_t flags, struct share_entry *ret,
                               struct share_opened *ret_opened)
{
    int error = share_meet(share, parent, name, ret);

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
    int directory = share_place(share, parent, name, &node);
    cleanup_close int fd = -1;
    int error;

    if (directory < 0)
        return directory;
    fd = share_make_file(directory, name, flags, mode);
    if (fd == -EEXIST && !(flags & O_EXCL))
        return share_open_existing(share, node, name, flags, ret, ret_opened);
    if (fd < 0)
        return fd;
    error = share_made(share, node, name, user, ret);
    if (error)
        return error;
    ret_opened->unchanged = false;
    error = share_add_handle(share, share_node(share, ret->node), take_fd(&fd), flags, ret_opened);
    if (error)
        share_forget(share, ret->node, 1);
    return error;
}

int share_link(struct share *share, uint64_t id, uint64_t parent, const char *name,
               struct share_entry *ret)
{
    struct node *directory_node, *node = share_node(share, id);
    cleanup_close int pinned = node ? tree_pin(&share->tree, node, NULL) : -ESTALE;
    struct fd_name old;
    int directory;

    if (pinned < 0)
        return pinned;
    directory = share_place(share, parent, name, &directory_node);
    if (directory < 0)
        return directory;
    old = tree_fd_name(pinned);
    if (linkat(share->tree.self_fds, old.text, directory, name, AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    return share_meet(share, directory_node, name, ret);
}

int share_unlink(struct share *share, uint64_t parent, const char *name, bool is_directory)
{
    struct node *directory_node, *node;
    int directory = share_place(share, parent, name, &directory_node);
    struct statx seen;
    int error;

    if (directory < 0)
        return directory;
    error = tree_look(&share->tree, directory_node, name, &seen);
    if (error)
        return error;
    if (unlinkat(directory, name, is_directory ? AT_REMOVEDIR : 0) < 0)
        return -errno;
    node = nodes_know(&share->tree.nodes, &seen);
    if (node)
        nodes_lose(&share->tree.nodes, node, directory_node, name);
    return 0;
}

/* The node of what is there now, or NULL. */
static struct node *share_known_at(struct share *share, struct node *directory, const char *name)
{
    struct statx seen;

    if (tree_look(&share->tree, directory, name, &seen))
        return NULL;
    return nodes_know(&share->tree.nodes, &seen);
}

int share_rename(struct share *share, uint64_t parent, const char *name, uint64_t new_parent,
                 const char *new_name, uint32_t flags)
{
    struct nodes *nodes = &share->tree.nodes;
    struct node *from, *to, *moved, *other;
    int from_fd = share_place(share, parent, name, &from);
    int to_fd = share_place(share, new_parent, new_name, &to);

    if (from_fd < 0 || to_fd < 0)
        return from_fd < 0 ? from_fd : to_fd;
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    moved = share_known_at(share, from, name);
    other = share_known_at(share, to, new_name);
    /* libc's has another call for no flags, which the thread would need leave for. */
    if (syscall(SYS_renameat2, from_fd, name, to_fd, new_name, flags) < 0)
        return -errno;
    if (other)
        nodes_lose(nodes, other, to, new_name);
    if (moved)
        nodes_move(nodes, moved, to, new_name);
    if (other && flags & RENAME_EXCHANGE)
        nodes_move(nodes, other, from, name);
    return 0;
}

/* Attributes. */

static int share_set_size(struct share *share, const struct node *node, int pinned,
                          const struct share_change *change)
{
    cleanup_close int opened = -1;
    int fd;

    if (!S_ISREG(node->identity.type))
        return -EINVAL;
    if (change->by_handle)
        fd = share_handle_fd(share_handle(share, node->id, change->handle));
    else
        fd = opened = tree_reopen(&share->tree, pinned, O_WRONLY);
    if (fd < 0)
        return fd;
    return ftruncate(fd, (off_t)change->size) < 0 ? -errno : 0;
}

static int share_set_owner(int pinned, const struct share_change *change)
{
    uid_t uid = change->set_uid ? change->uid : (uid_t)-1;
    gid_t gid = change->set_gid ? change->gid : (gid_t)-1;

    return fchownat(pinned, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int share_set_mode(struct share *share, int pinned, mode_t mode, mode_t type)
{
    mode_t bits = S_ISDIR(type) ? DIRECTORY_MODE_BITS : MODE_BITS;
    struct fd_name name = tree_fd_name(pinned);

    return fchmodat(share->tree.self_fds, name.text, mode & bits, 0) < 0 ? -errno : 0;
}

static int share_set_times(int pinned, const struct share_change *change)
{
    const struct timespec omit = { .tv_nsec = UTIME_OMIT };
    const struct timespec times[2] = { change->set_atime ? change->atime : omit,
                                       change->set_mtime ? change->mtime : omit };

    return utimensat(pinned, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int share_setattr(struct share *share, uint64_t id, const struct share_change *change,
                  struct statx *ret)
{
    struct node *node = share_node(share, id);
    cleanup_close int pinned = node ? tree_pin(&share->tree, node, NULL) : -ESTALE;
    int error = 0;

    if (pinned < 0)
        return pinned;
    if (change->set_size)
        error = share_set_size(share, node, pinned, change);
    if (!error && (change->set_uid || change->set_gid))
        error = share_set_owner(pinned, change);
    if (!error && change->set_mode) /* after the owner, whose change takes bits away */
        error = S_ISLNK(node->identity.type)
                    ? -EOPNOTSUPP
                    : share_set_mode(share, pinned, change->mode, node->identity.type);
    if (!error && (change->set_atime || change->set_mtime))
        error = share_set_times(pinned, change);
    return error ? error : share_getattr(share, id, ret);
}

/* Contents. */

ssize_t share_write(struct share *share, uint64_t node, uint64_t id, const struct iovec *iov,
                    unsigned count, uint64_t offset, bool from_cache)
{
    const struct handle *handle = share_handle(share, node, id);
    int fd = share_handle_fd(handle);
    ssize_t done;

    if (fd < 0)
        return fd;
    if (offset > INT64_MAX) /* -1 would mean something else */
        return -EINVAL;
    /* What a mapping wrote has its place; what write() wrote goes where the end is by now. */
    done = pwritev2(fd, iov, (int)count, (off_t)offset,
                    handle->flags & O_APPEND && !from_cache ? RWF_APPEND : 0);
    return done < 0 ? -errno : done;
}

int share_fallocate(struct share *share, uint64_t node, uint64_t id, uint64_t offset,
                    uint64_t length, uint32_t mode)
{
    const uint32_t known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    int fd = share_handle_fd(share_handle(share, node, id));

    if (fd < 0)
        return fd;
    if (mode & ~known)
        return -EOPNOTSUPP;
    return fallocate(fd, (int)mode, (off_t)offset, (off_t)length) < 0 ? -errno : 0;
}

int share_fsync(struct share *share, uint64_t node, uint64_t id, bool data_only)
{
    int fd = share_handle_fd(share_handle(share, node, id));

    if (fd < 0)
        return fd;
    return (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}
