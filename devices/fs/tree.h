/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_TREE_H
#define DEVICES_FS_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices/fs/node.h"

/*
 * From nodes to files: the only place that asks the host for a path. Each is resolved by openat2()
 * beneath a directory that was reached the same way, follows no link of any kind, and is only
 * believed if the file found is the one the node stands for. What the host moves out of the share
 * while the guest uses it is the guest's for as long as a descriptor of it is kept; nothing else
 * there is.
 *
 * Filesystems that are a view of the kernel's insides (/proc, /sys and their like) are not shown
 * but for their mount point: /proc/self/mem is a file, too.
 */
#define TREE_DEVICES 128u

struct tree {
    /* Its state. */
    struct nodes nodes;
    struct {
        uint32_t major, minor;
    } devices[TREE_DEVICES]; /* seen so far, the root's first */
    uint32_t device_count;

    /* Of this process. */
    int self_fds; /* /proc/self/fd: opens again what an O_PATH descriptor names */
};

/* Keeps up to `directories` open, 3 or more. 0 or -errno, printed. */
int tree_open(struct tree *tree, const char *path, unsigned directories);
void tree_close(struct tree *tree);

/*
 * An O_PATH descriptor of a directory, which stays the tree's and is good until two more have been
 * asked for. Of a node that is not what it was, or is nowhere any more: -ESTALE.
 */
int tree_directory(struct tree *tree, struct node *node);

/* An O_PATH descriptor of any file, which is the caller's. `seen` is filled in; may be NULL. */
int tree_pin(struct tree *tree, struct node *node, struct statx *seen);

/* Opens what was pinned, by `flags` of open(). */
int tree_reopen(const struct tree *tree, int pinned, int flags);
/* The same name for calls that take no descriptor: relative to tree->self_fds. */
struct fd_name {
    char text[12];
};
struct fd_name tree_fd_name(int fd);

int tree_stat(struct tree *tree, struct node *node, struct statx *ret);

/* What `name` in a directory is; links are not followed. */
int tree_look(struct tree *tree, struct node *directory, const char *name, struct statx *ret);

/* The same, and its node, looked up once more than before. */
int tree_meet(struct tree *tree, struct node *directory, const char *name, struct node **ret,
              struct statx *seen);

/* The inode number the guest is shown: no other file beneath the root has the same. */
uint64_t tree_ino(struct tree *tree, const struct identity *identity, uint64_t ino);

/* Saves it, or loads it into one just opened. Asks the host for nothing. */
void tree_state(struct tree *tree, struct state *s);

#endif
