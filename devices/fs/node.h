/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_NODE_H
#define DEVICES_FS_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices/fs/slots.h"

/*
 * What the guest knows of a shared directory: one node for each file it has looked up and not
 * forgotten. A node is no descriptor, of which a host gives few, but the place where the file was
 * last seen, its directory's node and its name there, and what tells it from any other file that
 * may be there by now. Directories keep an O_PATH descriptor, the least idle of them.
 */
#define NODES_MAX  (1u << 18)
#define NODES_OPEN 256u /* descriptors that are of use */

struct state;

/* The same for as long as a file is the same file. */
struct identity {
    uint64_t ino;
    uint32_t dev_major, dev_minor;
    uint64_t mount; /* a directory mounted twice is two: a guest's kernel has it in one place */
    uint64_t born;  /* nanoseconds; 0 where the filesystem keeps no such time */
    mode_t type;    /* S_IFMT's bits */
};

/* An open file or directory. */
struct handle {
    /* Its state. */
    uint64_t id;
    struct node *node; /* stays as long as the handle */
    uint32_t flags;    /* as of open(), to open it again */

    /* Of this process. */
    int fd;              /* or -ESTALE: of what could not be opened again */
    struct handle *next; /* of the same node */
};

struct node {
    /* Its state. */
    uint64_t id;
    struct identity identity;
    struct node *parent; /* NULL: the root, or a file that has lost its name */
    char *name;
    uint64_t lookups; /* how often the guest has yet to forget it */
    bool hidden;      /* nothing but its attributes is shown */
    bool superseded;  /* the file has another node by now, and no lookup finds this one */
    struct {
        uint64_t mtime, size;
    } opened; /* as it was when last opened */

    /* Of this process. */
    uint32_t children; /* nodes that have this one for their parent */
    struct handle *handles;
    struct node *hash_next;
    int fd;                      /* O_PATH, or -1 */
    struct node *newer, *staler; /* of those with a descriptor */
    bool listed;                 /* while all are saved: this one is */
};

struct nodes {
    /* Their state, and each node's. */
    struct slots slots;

    /* Of this process. */
    struct node **buckets;
    uint32_t bucket_mask, count;
    struct node *root;
    struct node *newest, *stalest; /* of those with a descriptor */
    unsigned open, open_max;
};

/*
 * With a root, which has id 1, keeps `root_fd` and is never forgotten. `open_max` others keep
 * theirs. 0 or -ENOMEM.
 */
int nodes_init(struct nodes *nodes, const struct statx *root, int root_fd, unsigned open_max);
void nodes_clear(struct nodes *nodes);  /* forgets all but the root; nothing is open */
void nodes_finish(struct nodes *nodes); /* closes the root's descriptor, too */

/* A node the guest may name, which lasts until it is forgotten. NULL: it may not. */
struct node *nodes_find(const struct nodes *nodes, uint64_t id);

/*
 * The node of the file that was seen as `name` in `parent`, an old one or a new one: looked up once
 * more than before. -ENFILE: there are too many; -ENOMEM.
 */
int nodes_meet(struct nodes *nodes, struct node **ret, const struct statx *seen,
               struct node *parent, const char *name);

/* The node of a file, whatever it is called; NULL if there is none. */
struct node *nodes_know(const struct nodes *nodes, const struct statx *seen);

/* The file is called `name` in `parent` from now on. */
void nodes_move(struct nodes *nodes, struct node *node, struct node *parent, const char *name);
/* No longer, if that is where it was last seen. */
void nodes_lose(struct nodes *nodes, struct node *node, struct node *parent, const char *name);

void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count);
void nodes_release(struct nodes *nodes, struct node *node); /* frees it if nobody needs it */

bool node_is(const struct node *node, const struct statx *seen); /* the same file? */

/* Gives the node a descriptor to keep, which may close that of the node longest unused. */
void nodes_keep(struct nodes *nodes, struct node *node, int fd);
void nodes_touch(struct nodes *nodes, struct node *node); /* it has one, and it is used */

/* May this be the name of a file in a directory? */
bool node_name_ok(const char *name);

/*
 * Saves all nodes, or loads them next to a root that is alone. Asks the host for nothing: a node is
 * a place and an identity, and whether that file is in that place is seen when it is used.
 */
void nodes_state(struct nodes *nodes, struct state *s);

#endif
