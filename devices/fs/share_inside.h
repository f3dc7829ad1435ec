/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SHARE_INSIDE_H
#define DEVICES_FS_SHARE_INSIDE_H

#include <errno.h>

#include "devices/fs/share.h"
#include "devices/fs/slots.h"
#include "devices/fs/tree.h"

#define SHARE_DIRENTS 32768u /* bytes of a directory read at once */

/* What share.c and share_write.c share. */
struct share {
    /* Its state, and each handle's. */
    struct tree tree;
    struct slots handles;

    /* Of this process. */
    bool writable;
    _Alignas(uint64_t) char dirents[SHARE_DIRENTS];
};

static inline struct node *share_node(const struct share *share, uint64_t id)
{
    return nodes_find(&share->tree.nodes, id);
}

/* The handle, if it is one of this node; NULL. */
struct handle *share_handle(const struct share *share, uint64_t node, uint64_t id);

/* Its descriptor. -EBADF: there is no handle; -ESTALE: nor its file any more. */
static inline int share_handle_fd(const struct handle *handle)
{
    return handle ? handle->fd : -EBADF;
}

/* Makes `fd` a handle, or closes it: -ENFILE. */
int share_add_handle(struct share *share, struct node *node, int fd, uint32_t flags,
                     struct share_opened *ret);

/* tree_meet() for the guest. */
int share_meet(struct share *share, struct node *parent, const char *name, struct share_entry *ret);

/* The same open flags without those that are not the guest's to say. */
uint32_t share_open_flags(uint32_t flags);

#endif
