/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_TREE_H
#define DEVICES_FS_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

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
 * Functions return 0, or a descriptor, or -errno for the guest. Not thread-safe.
 */
#define TREE_DEVICES 128u

struct tree {
    /* Saved. */
    struct nodes nodes;
    struct {
        uint32_t major, minor;
    } devices[TREE_DEVICES]; /* those found so far, the root's first */
    uint32_t device_count;

    /* Not saved. */
    int self_fds; /* /proc/self/fd: reopens the file of an O_PATH descriptor */
};

/* Keeps up to `directories` (at least 3) directories open. 0 or -errno, logged. */
int tree_open(struct tree *tree, const char *path, unsigned directories);
void tree_close(struct tree *tree);

/*
 * An O_PATH descriptor of a directory. It belongs to the tree, and is valid until two more
 * directories were requested. -ESTALE: another file, or none, has taken the node's place.
 */
int tree_directory_fd(struct tree *tree, struct node *node);

/* An O_PATH descriptor of any file, owned by the caller. `attr` is filled in unless NULL. */
int tree_open_path(struct tree *tree, struct node *node, struct statx *attr);

/*
 * Opens the regular file or directory of an O_PATH descriptor with `flags` of open(). The caller
 * owns the result. If another process has a lease on the file, waits until it lets go: for at most
 * /proc/sys/fs/lease-break-time seconds (45).
 */
int tree_reopen(const struct tree *tree, int path_fd, int flags);

/* The file's name relative to tree->self_fds, for system calls that take no descriptor. */
struct fd_name {
    char text[12];
};
struct fd_name tree_fd_name(int fd);

int tree_stat(struct tree *tree, struct node *node, struct statx *ret);

/* Attributes of `name` in a directory, without following links. */
int tree_stat_name(struct tree *tree, struct node *directory, const char *name, struct statx *ret);

/* FUSE_LOOKUP: the same, and the node of the file, with its lookup count incremented. */
int tree_lookup(struct tree *tree, struct node *directory, const char *name, struct node **ret,
                struct statx *attr);

/* The inode number to show the guest, unique in the share although devices number their own. */
uint64_t tree_ino(struct tree *tree, const struct identity *identity, uint64_t ino);

/* Saves the tree, or loads it into one just opened. Accesses no files. */
void tree_state(struct tree *tree, struct state *s);

#endif
