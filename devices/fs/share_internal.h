/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SHARE_INTERNAL_H
#define DEVICES_FS_SHARE_INTERNAL_H

#include <errno.h>

#include "devices/fs/owner.h"
#include "devices/fs/share.h"
#include "devices/fs/slots.h"
#include "devices/fs/tree.h"

#define SHARE_DIRENTS_SIZE 32768u /* bytes per getdents64() */

/* Common to share.c and share_write.c. */
struct share {
    /* Saved, with each handle. */
    struct tree tree;
    struct slots handles;
    struct owners owners;

    /* Not saved. */
    bool writable, xattrs;
    _Alignas(uint64_t) char dirents[SHARE_DIRENTS_SIZE];
};

static inline struct node *share_find_node(const struct share *share, uint64_t id)
{
    return nodes_find(&share->tree.nodes, id);
}

/* NULL: there is no such handle of this node. */
struct handle *share_find_handle(const struct share *share, uint64_t node, uint64_t id);

/* The handle's descriptor. -EBADF: `handle` is NULL; -ESTALE: its file was lost by a load. */
static inline int share_handle_fd(const struct handle *handle)
{
    return handle ? handle->fd : -EBADF;
}

/* Creates a handle that owns `fd`. -ENFILE: too many; `fd` is closed. */
int share_add_handle(struct share *share, struct node *node, int fd, uint32_t flags,
                     struct share_opened *ret);

/* share_lookup() by node: tree_lookup() with the inode number that the guest is shown. */
int share_lookup_at(struct share *share, struct node *parent, const char *name,
                    struct share_entry *ret);

/* Does the directory have a default access control list, which replaces the umask? */
bool share_has_default_acl(int directory);

/* Those flags of open() that a guest may set. */
uint32_t share_open_flags(uint32_t flags);

#endif
