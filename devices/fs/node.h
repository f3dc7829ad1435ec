/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_NODE_H
#define DEVICES_FS_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices/fs/slots.h"

/*
 * The nodes of a shared directory: one for each file that the guest has looked up and not forgotten
 * (FUSE_LOOKUP, FUSE_FORGET). A host allows few descriptors per process, so a node holds none. It
 * stores the node of the parent directory, the file's name there, and an identity that tells the
 * file from another one that may have taken its place. Only the most recently used directories
 * cache an O_PATH descriptor.
 *
 * A lookup finds a node by the identity of the file: hard links have one node. If `by_place` is
 * set, it finds it by directory and name: the node then stays the same when the host puts another
 * file of the same type into that place.
 *
 * Not thread-safe. What uses a node while other threads may run pins it: NODE_SCOPE().
 */
struct open_file;
struct share_budget;
struct state;

/* Stays the same over a file's life, and differs from that of any other file. */
struct identity {
    uint64_t ino;
    uint32_t dev_major, dev_minor;
    uint64_t mount; /* the guest's kernel allows a directory one parent: one node per mount */
    uint64_t born;  /* birth time in ns since 1970; 0: the filesystem has none */
    mode_t type;    /* st_mode & S_IFMT */
};

struct node {
    /* Saved. */
    uint64_t id;
    struct identity identity;
    struct node *parent; /* NULL: the root, or a file that was unlinked */
    char *name;
    uint64_t lookups; /* lookup count, as FUSE defines it */
    bool hidden;      /* the guest may see its attributes only */
    bool superseded;  /* the file has another node now: lookups no longer find this one */
    struct {
        uint64_t mtime, size;
    } opened; /* the file's, when it was last opened */

    /* Not saved. */
    uint32_t children;       /* nodes whose parent this is */
    uint32_t pins;           /* users that keep it alive */
    uint32_t held;           /* users that keep its files open */
    uint32_t absent;         /* see absent_watch() */
    struct open_file *files; /* open, each keeps it alive; see files.h */
    struct node *hash_next;
    int fd;          /* O_PATH, or -1 */
    int former_fd;   /* the one cached before, while pinned; or -1 */
    uint32_t missed; /* when it was last found to be gone, in seconds; 0: it is there */
    struct node *lru_newer, *lru_older;
    bool saved; /* by the nodes_state() in progress */
};

struct nodes {
    /* Saved, with each node. */
    struct slots slots;

    /* Not saved. */
    struct share_budget *budget;
    struct node **buckets; /* hash table by identity, or by place */
    uint32_t bucket_mask, count;
    bool by_place;
    struct node *root;
    struct node *lru_first, *lru_last; /* of nodes with a cached descriptor, but the root */
    unsigned cached;
};

/*
 * Creates the root node, which has id 1 and is never forgotten. It owns `root_fd` if this succeeds.
 * The budget limits the number of nodes, and how many cache a descriptor. 0, -ENFILE or -ENOMEM.
 */
int nodes_init(struct nodes *nodes, const struct statx *root, int root_fd, bool by_place,
               struct share_budget *budget);
void nodes_clear(struct nodes *nodes);  /* forgets all but the root; there must be no open files */
void nodes_finish(struct nodes *nodes); /* frees all, and closes the root's descriptor */

/* The node of an id from the guest; valid until it is forgotten. NULL: the guest has none such. */
struct node *nodes_find(const struct nodes *nodes, uint64_t id);

/* Keeps `node`, which may be NULL, until the end of the enclosing block. */
struct node_pin {
    struct nodes *nodes;
    struct node *node;
};
struct node_pin nodes_pin(struct nodes *nodes, struct node *node);
void node_unpin(struct node_pin *pin);
#define NODE_SCOPE(nodes, node) \
    __attribute__((cleanup(node_unpin), unused)) struct node_pin node##_pin = nodes_pin(nodes, node)

/*
 * FUSE_LOOKUP: finds or inserts the node of the file that is `name` in `parent` and has these
 * attributes, and increments its lookup count. Not for a place that has a node of another type, see
 * nodes_find_place(). -ENFILE: the budget is used up; -ENOMEM.
 */
int nodes_insert(struct nodes *nodes, struct node **ret, const struct statx *attr,
                 struct node *parent, const char *name);

/* The node of the file with these attributes, whatever its name; NULL: none. */
struct node *nodes_find_identity(const struct nodes *nodes, const struct statx *attr);

/* With `by_place`: the node that `name` in `parent` has; NULL: none. */
struct node *nodes_find_place(const struct nodes *nodes, const struct node *parent,
                              const char *name);

/*
 * With `by_place`: another file has taken the place of the node's. False: not now, as it happened
 * before and the first file is still in use.
 */
bool nodes_rebind(struct nodes *nodes, struct node *node, const struct statx *attr);

/* The file was renamed to `name` in `parent`. */
void nodes_move(struct nodes *nodes, struct node *node, struct node *parent, const char *name);

/* `name` in `parent` was unlinked: detaches the node if that is the name it has. */
void nodes_unlink(struct nodes *nodes, struct node *node, struct node *parent, const char *name);

/* FUSE_FORGET: subtracts from the lookup count, then nodes_release(). */
void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count);

/* Frees the node if it has no lookups, children, files or pins, then likewise its parents. */
void nodes_release(struct nodes *nodes, struct node *node);

/* Are these the attributes of the node's file, of a file of its type? */
bool node_matches(const struct node *node, const struct statx *attr);
bool node_has_type(const struct node *node, const struct statx *attr);

/* Caches `fd`, which the node then owns; may close that of a node that is not pinned. */
void nodes_cache_fd(struct nodes *nodes, struct node *node, int fd);

/* Another descriptor than the cached one is to be used from now on: that is closed once unpinned.
 */
void nodes_retire_fd(struct nodes *nodes, struct node *node);

/* The node's cached descriptor was used: makes it the most recently used one. */
void nodes_mark_used(struct nodes *nodes, struct node *node);

/* Is this one path component, and neither "." nor ".."? */
bool node_name_valid(const char *name);

/*
 * Saves all nodes, or loads them when there is only the root. Accesses no files: whether a node's
 * file is still in its place is checked when the node is used.
 */
void nodes_state(struct nodes *nodes, struct state *s);

#endif
