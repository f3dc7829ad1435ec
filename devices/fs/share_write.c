/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/fs/guard.h"
#include "devices/fs/share_internal.h"
#include "vmm/core/cleanup.h"

/* Without set-user-ID and, for files, set-group-ID: see owner.h. */
#define MODE_BITS           01777u
#define DIRECTORY_MODE_BITS 03777u

/*
 * The descriptor of the directory in which `name` is to change. It belongs to the tree. The node is
 * pinned; NULL: there is none.
 */
static int share_parent_fd(struct share *share, struct node *directory, const char *name)
{
    if (!node_name_valid(name))
        return -EINVAL;
    return directory ? tree_directory_fd(&share->tree, directory) : -ESTALE;
}

/* The same for a name that the guest gives a file. */
static int share_new_parent_fd(struct share *share, struct node *directory, const char *name)
{
    if (share->guarded && !guard_text_ok(name))
        return -EINVAL;
    return share_parent_fd(share, directory, name);
}

/*
 * While the host lets a request wait, another one is served: in a guarded share it must make no
 * link or directory where the first has found none, and is about to rename what is there. Until the
 * end of the enclosing block.
 */
static struct share *share_take_names(struct share *share)
{
    if (share->guarded)
        TREE_WAIT(&share->tree, pthread_mutex_lock(&share->names));
    return share;
}

static void share_leave_names(struct share *const *share)
{
    if ((*share)->guarded)
        pthread_mutex_unlock(&(*share)->names);
}

#define NAMES_SCOPE(share)                                                                \
    __attribute__((cleanup(share_leave_names), unused)) struct share *const names_taken = \
        share_take_names(share)

/* Whether a link with that target, in `directory`, leads out of a guarded share. 0 or -errno. */
static int share_check_link(struct share *share, int directory, const char *target)
{
    int depth;

    if (!share->guarded)
        return 0;
    depth = tree_depth(&share->tree, directory);
    if (depth < 0)
        return depth;
    return guard_text_ok(target) && guard_target_ok(target, (unsigned)depth) ? 0 : -EPERM;
}

/* `mode` with the user's umask applied. */
static mode_t share_new_mode(struct share *share, int directory, mode_t mode,
                             struct share_user user)
{
    if (mode & user.umask && !TREE_WAIT(&share->tree, share_has_default_acl(directory)))
        mode &= ~user.umask;
    return mode;
}

/* What is about to be made by name in `directory`. */
static struct owner_created share_begin_new(int directory, const char *name, mode_t mode)
{
    struct owner_created created = { .directory = directory, .fd = -1, .name = name, .mode = mode };

    clock_gettime(CLOCK_REALTIME_COARSE, &created.since); /* as the kernel stamps files */
    return created;
}

/* Sets the owner of a new file, and looks it up. */
static int share_finish_new(struct share *share, struct node *parent, const char *name,
                            struct owner_created *created, struct share_user user,
                            struct share_entry *ret)
{
    created->directory = tree_directory_fd(&share->tree, parent); /* may have changed meanwhile */
    if (created->directory < 0)
        return created->directory;
    TREE_WAIT(&share->tree, (owners_created(&share->owners, created, &user), 0));
    return share_lookup_at(share, parent, name, ret);
}

int share_mkdir(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret)
{
    struct node *node = share_find_node(share, parent);
    struct owner_created created;
    int directory, error;

    NODE_SCOPE(&share->tree.nodes, node);
    NAMES_SCOPE(share);
    directory = share_new_parent_fd(share, node, name);
    if (directory < 0)
        return directory;
    mode = share_new_mode(share, directory, mode, user);
    created = share_begin_new(directory, name, S_IFDIR | (mode & ~(mode_t)S_IFMT));
    error = (int)TREE_CALL(&share->tree, mkdirat(directory, name, mode & DIRECTORY_MODE_BITS));
    return error ? error : share_finish_new(share, node, name, &created, user, ret);
}

int share_symlink(struct share *share, uint64_t parent, const char *name, const char *target,
                  struct share_user user, struct share_entry *ret)
{
    struct node *node = share_find_node(share, parent);
    struct owner_created created;
    int directory, error;

    NODE_SCOPE(&share->tree.nodes, node);
    NAMES_SCOPE(share);
    directory = share_new_parent_fd(share, node, name);
    if (directory < 0)
        return directory;
    error = share_check_link(share, directory, target);
    if (error)
        return error;
    created = share_begin_new(directory, name, S_IFLNK);
    error = (int)TREE_CALL(&share->tree, symlinkat(target, directory, name));
    return error ? error : share_finish_new(share, node, name, &created, user, ret);
}

/* Creates and opens a regular file, which must not exist. A descriptor, or -errno. */
static int share_create_file(struct share *share, int directory, const char *name, uint32_t flags,
                             mode_t mode)
{
    int all = (int)share_open_flags(flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;

    return (int)TREE_CALL(&share->tree, openat(directory, name, all, mode & MODE_BITS));
}

/*
 * A pipe or socket is a name only: each kernel makes its own of it when it is opened, and this
 * process never opens it. A device would be the host's. A regular file's descriptor is left in
 * created->fd, for the caller to close.
 */
static int share_make_node(struct share *share, struct owner_created *created)
{
    if (S_ISFIFO(created->mode) || S_ISSOCK(created->mode))
        return (int)TREE_CALL(&share->tree, mknodat(created->directory, created->name,
                                                    created->mode & (S_IFMT | MODE_BITS), 0));
    if (!S_ISREG(created->mode))
        return -EPERM;
    created->fd =
        share_create_file(share, created->directory, created->name, O_WRONLY, created->mode);
    return created->fd < 0 ? created->fd : 0;
}

int share_mknod(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret)
{
    struct node *node = share_find_node(share, parent);
    struct owner_created created;
    int directory, error;

    NODE_SCOPE(&share->tree.nodes, node);
    directory = share_new_parent_fd(share, node, name);
    if (directory < 0)
        return directory;
    created = share_begin_new(directory, name, share_new_mode(share, directory, mode, user));
    error = share_make_node(share, &created);
    if (!error)
        error = share_finish_new(share, node, name, &created, user, ret);
    if (created.fd >= 0)
        TREE_CALL(&share->tree, close(created.fd));
    return error;
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

/* Looks up a file just created, and makes a handle that owns `fd`. */
static int share_open_new(struct share *share, struct node *parent, const char *name,
                          uint32_t flags, mode_t mode, int fd, struct share_user user,
                          struct share_entry *ret, struct share_opened *ret_opened)
{
    cleanup_close int owned = fd;
    struct owner_created created = { .fd = fd, .mode = S_IFREG | (mode & ~(mode_t)S_IFMT) };
    int error = share_finish_new(share, parent, name, &created, user, ret);
    struct open_file *file;
    struct node *node;

    if (error)
        return error;
    node = share_find_node(share, ret->node); /* NULL: forgotten already, by a hostile guest */
    NODE_SCOPE(&share->tree.nodes, node);
    error = node ? files_add(&share->tree, &file, node, (int)(flags & O_ACCMODE), take_fd(&owned))
                 : -ESTALE;
    if (!error)
        error = share_add_handle(share, file, flags, ret_opened);
    if (error)
        share_forget(share, ret->node, 1);
    ret_opened->unchanged = false;
    return error;
}

int share_create(struct share *share, uint64_t parent, const char *name, uint32_t flags,
                 mode_t mode, struct share_user user, struct share_entry *ret,
                 struct share_opened *ret_opened)
{
    struct node *node = share_find_node(share, parent);
    int directory, fd;

    NODE_SCOPE(&share->tree.nodes, node);
    directory = share_new_parent_fd(share, node, name);
    if (directory < 0)
        return directory;
    mode = share_new_mode(share, directory, mode, user);
    fd = share_create_file(share, directory, name, flags, mode);
    if (fd == -EEXIST && !(flags & O_EXCL))
        return share_open_existing(share, node, name, flags, ret, ret_opened);
    if (fd < 0)
        return fd;
    return share_open_new(share, node, name, flags, mode, fd, user, ret, ret_opened);
}

int share_link(struct share *share, uint64_t id, uint64_t parent, const char *name,
               struct share_entry *ret)
{
    struct tree *tree = &share->tree;
    struct node *directory_node = share_find_node(share, parent);
    struct node *node = share_find_node(share, id);
    cleanup_close int path_fd = -1;
    struct fd_name old;
    int directory, error;

    NODE_SCOPE(&tree->nodes, directory_node);
    NODE_SCOPE(&tree->nodes, node);
    path_fd = node ? tree_open_path(tree, node, NULL) : -ESTALE;
    if (path_fd < 0)
        return path_fd;
    directory = share_new_parent_fd(share, directory_node, name);
    if (directory < 0)
        return directory;
    if (share->guarded && S_ISLNK(node->identity.type)) /* it may lead out from there */
        return -EPERM;
    old = tree_fd_name(path_fd);
    error =
        (int)TREE_CALL(tree, linkat(tree->self_fds, old.text, directory, name, AT_SYMLINK_FOLLOW));
    return error ? error : share_lookup_at(share, directory_node, name, ret);
}

/* A name of the file is gone. If it was the last, nobody asks for its owner: unless it is open. */
static void share_forget_owner(struct share *share, const struct node *node,
                               const struct statx *attr)
{
    if ((attr->stx_nlink == 1 || S_ISDIR(attr->stx_mode)) && !(node && node->files))
        owners_forget(&share->owners, attr);
}

int share_unlink(struct share *share, uint64_t parent, const char *name, bool is_directory)
{
    struct tree *tree = &share->tree;
    struct node *directory_node = share_find_node(share, parent), *node;
    struct statx attr;
    int directory, error;

    NODE_SCOPE(&tree->nodes, directory_node);
    directory = share_parent_fd(share, directory_node, name);
    if (directory < 0)
        return directory;
    error = tree_stat_name(tree, directory_node, name, &attr);
    if (error)
        return error;
    node = nodes_find_identity(&tree->nodes, &attr);
    NODE_SCOPE(&tree->nodes, node);
    if (node)
        files_hold(tree, node);
    error = (int)TREE_CALL(tree, unlinkat(directory, name, is_directory ? AT_REMOVEDIR : 0));
    if (!error)
        share_forget_owner(share, node, &attr);
    if (!error && node)
        nodes_unlink(&tree->nodes, node, directory_node, name);
    if (node)
        files_unhold(node);
    return error;
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

/*
 * Refuses to move a link up, by itself or in a directory, as it may lead out then. Programs take
 * EXDEV as a reason to copy, and so to make the link anew.
 */
static int share_check_rise(const struct share *share, const struct share_place *from,
                            const struct share_place *to)
{
    int before, after;

    if (!share->guarded || !(S_ISDIR(from->attr.stx_mode) || S_ISLNK(from->attr.stx_mode)))
        return 0;
    before = tree_depth(&share->tree, from->fd);
    after = tree_depth(&share->tree, to->fd);
    if (before < 0 || after < 0)
        return before < 0 ? before : after;
    return after < before ? -EXDEV : 0;
}

/* Renames, with both directories found. */
static int share_rename_places(struct share *share, struct share_place *from,
                               struct share_place *to, uint32_t flags)
{
    struct tree *tree = &share->tree;
    struct node *moved, *other;
    bool swap = flags & RENAME_EXCHANGE, replaces;
    int error;

    share_look_at(share, from);
    moved = from->node;
    NODE_SCOPE(&tree->nodes, moved);
    replaces = share_look_at(share, to) && !swap;
    other = to->node;
    NODE_SCOPE(&tree->nodes, other);
    error = share_check_rise(share, from, to);
    if (!error && swap)
        error = share_check_rise(share, to, from);
    if (error)
        return error;
    if (moved)
        tree_begin_rename(tree, moved);
    if (other)
        tree_begin_rename(tree, other);
    /* libc's renameat2() without flags calls renameat(), which the seccomp filter denies. */
    error =
        (int)TREE_CALL(tree, syscall(SYS_renameat2, from->fd, from->name, to->fd, to->name, flags));
    if (!error && replaces)
        share_forget_owner(share, other, &to->attr);
    if (!error)
        share_note_rename(share, from, to, swap);
    if (moved)
        tree_end_rename(tree, moved);
    if (other)
        tree_end_rename(tree, other);
    return error;
}

int share_rename(struct share *share, uint64_t parent, const char *name, uint64_t new_parent,
                 const char *new_name, uint32_t flags)
{
    struct nodes *nodes = &share->tree.nodes;
    struct node *old = share_find_node(share, parent), *new = share_find_node(share, new_parent);
    struct share_place from = { .directory = old, .name = name };
    struct share_place to = { .directory = new, .name = new_name };

    NODE_SCOPE(nodes, old);
    NODE_SCOPE(nodes, new);
    NAMES_SCOPE(share);
    from.fd = share_parent_fd(share, old, name);
    to.fd = share_new_parent_fd(share, new, new_name);
    if (from.fd < 0 || to.fd < 0)
        return from.fd < 0 ? from.fd : to.fd;
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    return share_rename_places(share, &from, &to, flags);
}

/* Attributes. */

static int share_set_size(struct share *share, struct node *node, int path_fd,
                          const struct share_change *change)
{
    struct open_file *file =
        change->by_handle ? share_find_file(share, node->id, change->handle, NULL) : NULL;
    int fd, error;

    if (!S_ISREG(node->identity.type))
        return -EINVAL;
    FILE_SCOPE(&share->tree, file);
    if (change->by_handle)
        fd = share_file_fd(share, file);
    else
        fd = tree_reopen(&share->tree, path_fd, O_WRONLY);
    if (fd < 0)
        return fd;
    error = (int)TREE_CALL(&share->tree, ftruncate(fd, (off_t)change->size));
    if (!error && change->by_user)
        TREE_WAIT(&share->tree, (owners_written(&share->owners, fd), 0));
    if (!change->by_handle)
        TREE_CALL(&share->tree, close(fd));
    return error;
}

static int share_set_mode(struct share *share, int path_fd, mode_t mode, mode_t type)
{
    mode_t bits = S_ISDIR(type) ? DIRECTORY_MODE_BITS : MODE_BITS;
    struct fd_name name = tree_fd_name(path_fd);
    int error =
        (int)TREE_CALL(&share->tree, fchmodat(share->tree.self_fds, name.text, mode & bits, 0));

    return error ? error
                 : (int)TREE_WAIT(&share->tree, owners_set_mode(&share->owners, path_fd, mode));
}

static int share_set_times(struct share *share, int path_fd, const struct share_change *change)
{
    const struct timespec omit = { .tv_nsec = UTIME_OMIT };
    const struct timespec times[2] = { change->set_atime ? change->atime : omit,
                                       change->set_mtime ? change->mtime : omit };

    return (int)TREE_CALL(&share->tree, utimensat(path_fd, "", times, AT_EMPTY_PATH));
}

int share_setattr(struct share *share, uint64_t id, const struct share_change *change,
                  struct statx *ret)
{
    struct node *node = share_find_node(share, id);
    cleanup_close int path_fd = -1;
    int error = 0;

    NODE_SCOPE(&share->tree.nodes, node);
    path_fd = node ? tree_open_path(&share->tree, node, NULL) : -ESTALE;
    if (path_fd < 0)
        return path_fd;
    if (change->set_size)
        error = share_set_size(share, node, path_fd, change);
    if (!error && (change->set_uid || change->set_gid))
        error =
            (int)TREE_WAIT(&share->tree, owners_set(&share->owners, path_fd,
                                                    change->set_uid ? change->uid : OWNER_KEEP,
                                                    change->set_gid ? change->gid : OWNER_KEEP));
    if (!error && change->set_mode) /* after the owner, as chown() clears mode bits */
        error = S_ISLNK(node->identity.type)
                    ? -EOPNOTSUPP
                    : share_set_mode(share, path_fd, change->mode, node->identity.type);
    if (!error && (change->set_atime || change->set_mtime))
        error = share_set_times(share, path_fd, change);
    return error ? error : share_getattr(share, id, ret);
}

/* Contents. */

ssize_t share_write(struct share *share, uint64_t node, uint64_t id, const struct iovec *iov,
                    unsigned count, uint64_t offset, bool from_cache)
{
    uint32_t flags = 0;
    struct open_file *file = share_find_file(share, node, id, &flags);
    int fd, how;

    FILE_SCOPE(&share->tree, file);
    fd = share_file_fd(share, file);
    if (fd < 0)
        return fd;
    if (offset > INT64_MAX) /* -1 would mean the file position */
        return -EINVAL;
    /* Pages written back from the guest's page cache have a fixed offset even with O_APPEND. */
    how = flags & O_APPEND && !from_cache ? RWF_APPEND : 0;
    how |= (flags & O_SYNC) == O_SYNC ? RWF_SYNC : flags & O_DSYNC ? RWF_DSYNC : 0;
    return TREE_CALL(&share->tree, pwritev2(fd, iov, (int)count, (off_t)offset, how));
}

void share_written_by_user(struct share *share, uint64_t node, uint64_t id)
{
    struct open_file *file = share_find_file(share, node, id, NULL);
    int fd;

    FILE_SCOPE(&share->tree, file);
    fd = share_file_fd(share, file);
    if (fd >= 0)
        TREE_WAIT(&share->tree, (owners_written(&share->owners, fd), 0));
}

int share_fallocate(struct share *share, uint64_t node, uint64_t id, uint64_t offset,
                    uint64_t length, uint32_t mode)
{
    const uint32_t known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    struct open_file *file = share_find_file(share, node, id, NULL);
    int fd;

    FILE_SCOPE(&share->tree, file);
    fd = share_file_fd(share, file);
    if (fd < 0)
        return fd;
    if (mode & ~known)
        return -EOPNOTSUPP;
    return (int)TREE_CALL(&share->tree, fallocate(fd, (int)mode, (off_t)offset, (off_t)length));
}

int share_fsync(struct share *share, uint64_t node, uint64_t id, bool data_only)
{
    struct open_file *file = share_find_file(share, node, id, NULL);
    int fd;

    FILE_SCOPE(&share->tree, file);
    fd = share_file_fd(share, file);
    if (fd < 0)
        return fd;
    return (int)TREE_CALL(&share->tree, data_only ? fdatasync(fd) : fsync(fd));
}
