/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_FILES_H
#define DEVICES_FS_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/fs/node.h"

/*
 * The open files of a share. All handles of a node with the same access share one descriptor,
 * except those of directories. When the budget of descriptors is used up, files open for reading
 * are closed, the least recently used first, and reopened by place when needed again.
 *
 * On the share's loop, with the node pinned. Functions that use the host release the loop.
 */
struct tree;

struct open_file {
    struct node *node; /* which it keeps alive */
    int access;        /* O_RDONLY, O_WRONLY or O_RDWR */
    int fd;            /* -1: closed for now, or lost by a load */
    bool former;       /* another file has taken the node's place since: it is never reopened */
    unsigned handles, pins;
    struct open_file *next;          /* of the node */
    struct open_file *newer, *older; /* in tree->readable, if it is open for reading */
};

/*
 * Opens the node's file, or finds it open already. The caller has one more handle of *ret. `attr`
 * gets the file's attributes, unless NULL.
 */
int files_open(struct tree *tree, struct open_file **ret, struct node *node, int access,
               struct statx *attr);

/* Adds an `fd` just opened, which it owns even on error (-ENOMEM, -ENFILE). */
int files_add(struct tree *tree, struct open_file **ret, struct node *node, int access, int fd);

/* The same for a handle that was loaded: its file is opened when it is first used. */
int files_restore(struct tree *tree, struct open_file **ret, struct node *node, int access);

void files_put(struct tree *tree, struct open_file *file); /* a handle was released */

/* The descriptor, valid while the file is pinned. -ESTALE, ...: it cannot be opened again. */
int files_fd(struct tree *tree, struct open_file *file);

/* The node's name is about to be removed: opens what could not be reopened then, and keeps it so.
 */
void files_hold(struct tree *tree, struct node *node);
void files_unhold(struct node *node); /* once the name is removed, or was not */

/* Keeps `file`, which may be NULL, and its descriptor until the end of the enclosing block. */
struct file_pin {
    struct tree *tree;
    struct open_file *file;
};
struct file_pin files_pin(struct tree *tree, struct open_file *file);
void file_unpin(struct file_pin *pin);
#define FILE_SCOPE(tree, file) \
    __attribute__((cleanup(file_unpin), unused)) struct file_pin file##_pin = files_pin(tree, file)

#endif
