/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SHARE_INTERNAL_H
#define DEVICES_FS_SHARE_INTERNAL_H

#include <errno.h>
#include <pthread.h>

#include "devices/fs/files.h"
#include "devices/fs/owner.h"
#include "devices/fs/share.h"
#include "devices/fs/slots.h"
#include "devices/fs/tree.h"

/* Common to share.c and share_write.c. */
struct share {
    /* Saved, with each handle. */
    struct tree tree;
    struct slots handles;
    struct owners owners;

    /* Not saved. */
    struct share_budget *budget;
    bool writable, guarded;
    pthread_mutex_t names; /* if guarded, of who makes names: see share_write.c */
};

/* What the guest has open, with its own flags. */
struct handle {
    uint64_t id;
    struct open_file *file;
    uint32_t flags; /* of open() */
};

static inline struct node *share_find_node(const struct share *share, uint64_t id)
{
    return nodes_find(&share->tree.nodes, id);
}

/* The file of a handle of this node, or NULL; `flags`, unless NULL, gets the handle's. */
struct open_file *share_find_file(const struct share *share, uint64_t node, uint64_t id,
                                  uint32_t *flags);

/* The file's descriptor; the file is pinned. -EBADF: it is NULL; -ESTALE, ...: it is lost. */
static inline int share_file_fd(struct share *share, struct open_file *file)
{
    return file ? files_fd(&share->tree, file) : -EBADF;
}

/* Creates a handle of a file, of which it takes over one user. -ENFILE: too many. */
int share_add_handle(struct share *share, struct open_file *file, uint32_t flags,
                     struct share_opened *ret);

/* share_lookup() by node: tree_lookup() with the inode number that the guest is shown. */
int share_lookup_at(struct share *share, struct node *parent, const char *name,
                    struct share_entry *ret);

/* Does the directory have a default access control list, which replaces the umask? */
bool share_has_default_acl(int directory);

/* Those flags of open() that a guest may set. */
uint32_t share_open_flags(uint32_t flags);

#endif
