/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_TREE_H
#define DEVICES_FS_TREE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices/fs/absent.h"
#include "devices/fs/node.h"

/*
 * From nodes to files. This is the only code that passes paths to the host. openat2() resolves each
 * path beneath a directory that was reached the same way and follows no links; the file found is
 * used only if its identity is the node's. A file that the host moves out of the share stays
 * accessible while a descriptor of it is open, but nothing around it does.
 *
 * Pseudo filesystems (/proc, /sys, ...) are hidden except for their mount point, because files such
 * as /proc/self/mem are dangerous.
 *
 * Functions return 0, or a descriptor, or -errno for the guest. They run on the share's loop and
 * release it while the host may keep them waiting; the caller pins the nodes it passes.
 */
struct tree {
    /* Saved. */
    struct nodes nodes;
    struct tree_device *devices; /* those found so far, the root's first */
    uint32_t device_count;

    /* Not saved. */
    struct loop *loop;
    struct absent absent;
    struct {
        struct open_file *first, *last; /* the most recently used first */
    } readable;                         /* see files.h */
    unsigned descriptors;               /* of open files, in the budget */
    uint32_t renames;                   /* done by the guest so far */
    int self_fds; /* /proc/self/fd: reopens the file of an O_PATH descriptor */
};

/* Evaluates an expression that may wait for the host, with the loop released. */
#define TREE_WAIT(tree, expression) \
    __extension__({                 \
        long result_;               \
                                    \
        loop_release((tree)->loop); \
        result_ = (expression);     \
        loop_acquire((tree)->loop); \
        result_;                    \
    })

static inline long tree_result(long returned)
{
    return returned < 0 ? -errno : returned;
}

/* The same for a system call. Its result, as a long, or -errno. */
#define TREE_CALL(tree, call) TREE_WAIT(tree, tree_result(call))

struct share_budget;
struct share_options;

/* `loop` and `budget` must outlive the tree. 0 or -errno, logged. */
int tree_open(struct tree *tree, const struct share_options *options, struct share_budget *budget,
              struct loop *loop);
void tree_close(struct tree *tree);

/*
 * An O_PATH descriptor of a directory. It belongs to the tree, and is valid while the node is
 * pinned. -ESTALE: another file, or none, has taken the node's place.
 */
int tree_directory_fd(struct tree *tree, struct node *node);

/* An O_PATH descriptor of any file, owned by the caller. `attr` is filled in unless NULL. */
int tree_open_path(struct tree *tree, struct node *node, struct statx *attr);

/*
 * Around a rename of the node, which is pinned: other requests find it, and what is below it, by a
 * descriptor, whichever name it has on the host at that moment.
 */
void tree_begin_rename(struct tree *tree, struct node *node);
void tree_end_rename(struct tree *tree, struct node *node);

/*
 * Opens the regular file or directory of an O_PATH descriptor with `flags` of open(). The caller
 * owns the result. If another process has a lease on the file, waits until it lets go: for at most
 * /proc/sys/fs/lease-break-time seconds (45).
 */
int tree_reopen(const struct tree *tree, int path_fd, int flags);

/* The same for a node: a regular file or a directory. `attr` is filled in unless NULL. */
int tree_open_file(struct tree *tree, struct node *node, int flags, struct statx *attr);

/* The file's name relative to tree->self_fds, for system calls that take no descriptor. */
struct fd_name {
    char text[12];
};
struct fd_name tree_fd_name(int fd);

int tree_stat(struct tree *tree, struct node *node, struct statx *ret);

/* Attributes of `name` in a directory, without following links. */
int tree_stat_name(struct tree *tree, struct node *directory, const char *name, struct statx *ret);

/*
 * FUSE_LOOKUP: the same, and the node of the file, with its lookup count incremented. *ret_gone:
 * the file has vanished or changed its type, but an overlay in the guest still needs the node.
 */
int tree_lookup(struct tree *tree, struct node *directory, const char *name, struct node **ret,
                struct statx *attr, bool *ret_gone);

/*
 * The same for an entry of a listing. -EAGAIN: it is a mount point. Its filesystem may not answer,
 * which must not hold up the listing.
 */
int tree_lookup_entry(struct tree *tree, struct node *directory, const char *name,
                      struct node **ret, struct statx *attr, bool *ret_gone);

/*
 * How many levels a directory is below the root: on the host, which may have moved it since the
 * guest has looked it up. -ESTALE: it is not below.
 */
int tree_depth(const struct tree *tree, int directory);

/* The inode number to show the guest, unique in the share although devices number their own. */
uint64_t tree_ino(struct tree *tree, const struct identity *identity, uint64_t ino);

/* Saves the tree, or loads it into one just opened. Accesses no files. */
void tree_state(struct tree *tree, struct state *s);

#endif
