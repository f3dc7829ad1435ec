/* SPDX-License-Identifier: MIT */
#include "devices/fs/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_BUCKETS 64u

static struct identity identity_of(const struct statx *seen)
{
    return (struct identity){
        .ino = seen->stx_ino,
        .dev_major = seen->stx_dev_major,
        .dev_minor = seen->stx_dev_minor,
        .mount = seen->stx_mask & STATX_MNT_ID ? seen->stx_mnt_id : 0,
        .born = seen->stx_mask & STATX_BTIME
                    ? (int64_t)((uint64_t)seen->stx_btime.tv_sec * 1000000000u +
                                seen->stx_btime.tv_nsec)
                    : 0,
        .type = seen->stx_mode & S_IFMT,
    };
}

static bool identity_equal(const struct identity *a, const struct identity *b)
{
    return a->ino == b->ino && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
           a->mount == b->mount && a->born == b->born && a->type == b->type;
}

bool node_is(const struct node *node, const struct statx *seen)
{
    struct identity identity = identity_of(seen);

    return identity_equal(&node->identity, &identity);
}

static struct node **nodes_bucket(const struct nodes *nodes, const struct identity *identity)
{
    uint64_t mixed = (identity->ino ^ (uint64_t)identity->dev_minor << 40) * 0x9e3779b97f4a7c15u;

    return &nodes->buckets[mixed >> 32 & nodes->bucket_mask];
}

static void nodes_hash(struct nodes *nodes, struct node *node)
{
    struct node **bucket = nodes_bucket(nodes, &node->identity);

    node->hash_next = *bucket;
    *bucket = node;
}

static void nodes_unhash(struct nodes *nodes, struct node *node)
{
    struct node **link = nodes_bucket(nodes, &node->identity);

    while (*link && *link != node)
        link = &(*link)->hash_next;
    if (*link)
        *link = node->hash_next;
}

/* Without memory for more buckets the chains grow longer, and that is all. */
static void nodes_grow(struct nodes *nodes)
{
    uint32_t old_count = nodes->bucket_mask + 1;
    struct node **old = nodes->buckets;
    struct node **buckets;

    if (nodes->count <= old_count)
        return;
    buckets = calloc(2 * (size_t)old_count, sizeof(struct node *));
    if (!buckets)
        return;
    nodes->buckets = buckets;
    nodes->bucket_mask = 2 * old_count - 1;
    for (uint32_t i = 0; i < old_count; i++)
        while (old[i]) {
            struct node *node = old[i];

            old[i] = node->hash_next;
            nodes_hash(nodes, node);
        }
    free(old);
}

struct node *nodes_know(const struct nodes *nodes, const struct statx *seen)
{
    struct identity identity = identity_of(seen);
    struct node *node = *nodes_bucket(nodes, &identity);

    while (node && !identity_equal(&node->identity, &identity))
        node = node->hash_next;
    return node;
}

static struct node *nodes_create(struct nodes *nodes, const struct statx *seen)
{
    struct node *node = calloc(1, sizeof(*node));

    if (!node)
        return NULL;
    node->id = slots_add(&nodes->slots, node);
    if (!node->id) {
        free(node);
        return NULL;
    }
    node->identity = identity_of(seen);
    node->fd = -1;
    nodes->count++;
    nodes_grow(nodes);
    nodes_hash(nodes, node);
    return node;
}

static void nodes_unlist(struct nodes *nodes, struct node *node)
{
    *(node->newer ? &node->newer->staler : &nodes->newest) = node->staler;
    *(node->staler ? &node->staler->newer : &nodes->stalest) = node->newer;
    node->newer = node->staler = NULL;
    nodes->open--;
}

static void nodes_close(struct nodes *nodes, struct node *node)
{
    nodes_unlist(nodes, node);
    close(node->fd);
    node->fd = -1;
}

static void nodes_list(struct nodes *nodes, struct node *node)
{
    node->staler = nodes->newest;
    *(nodes->newest ? &nodes->newest->newer : &nodes->stalest) = node;
    nodes->newest = node;
    nodes->open++;
}

void nodes_keep(struct nodes *nodes, struct node *node, int fd)
{
    if (nodes->open == nodes->open_max)
        nodes_close(nodes, nodes->stalest);
    node->fd = fd;
    nodes_list(nodes, node);
}

void nodes_touch(struct nodes *nodes, struct node *node)
{
    if (node == nodes->root || node == nodes->newest)
        return;
    nodes_unlist(nodes, node);
    nodes_list(nodes, node);
}

/* Frees its memory; nobody points to it but the tables. */
static void nodes_destroy(struct nodes *nodes, struct node *node)
{
    nodes_unhash(nodes, node);
    if (node != nodes->root && node->fd >= 0)
        nodes_close(nodes, node);
    slots_remove(&nodes->slots, node->id);
    nodes->count--;
    free(node->name);
    free(node);
}

void nodes_release(struct nodes *nodes, struct node *node)
{
    while (node && !node->lookups && !node->children && !node->handles) {
        struct node *parent = node->parent;

        nodes_destroy(nodes, node);
        if (parent)
            parent->children--;
        node = parent;
    }
}

void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count)
{
    if (node == nodes->root)
        return;
    node->lookups -= count < node->lookups ? count : node->lookups;
    nodes_release(nodes, node);
}

static void nodes_unplace(struct nodes *nodes, struct node *node)
{
    struct node *parent = node->parent;

    if (!parent)
        return;
    free(node->name);
    node->name = NULL;
    node->parent = NULL;
    parent->children--;
    nodes_release(nodes, parent);
}

/*
 * False: out of memory, or `node` is above `parent` by what we know, which is old: the host has
 * moved directories about. Then it is to be a new node, so that every way up ends at the root.
 */
static bool nodes_place(struct nodes *nodes, struct node *node, struct node *parent,
                        const char *name)
{
    char *copy;

    if (node->parent == parent && !strcmp(node->name, name))
        return true;
    for (const struct node *above = parent; above; above = above->parent)
        if (above == node)
            return false;
    copy = strdup(name);
    if (!copy)
        return false;
    parent->children++; /* first, so that it does not go with the old place */
    nodes_unplace(nodes, node);
    node->parent = parent;
    node->name = copy;
    return true;
}

int nodes_meet(struct nodes *nodes, struct node **ret, const struct statx *seen,
               struct node *parent, const char *name)
{
    struct node *node = nodes_know(nodes, seen);

    if (node && !nodes_place(nodes, node, parent, name)) {
        nodes_unhash(nodes, node);
        node = NULL;
    }
    if (!node) {
        node = nodes_create(nodes, seen);
        if (!node)
            return nodes->count == NODES_MAX ? -ENFILE : -ENOMEM;
        if (!nodes_place(nodes, node, parent, name)) {
            nodes_release(nodes, node);
            return -ENOMEM;
        }
    }
    node->lookups++;
    *ret = node;
    return 0;
}

void nodes_move(struct nodes *nodes, struct node *node, struct node *parent, const char *name)
{
    if (!nodes_place(nodes, node, parent, name))
        nodes_unplace(nodes, node);
}

void nodes_lose(struct nodes *nodes, struct node *node, struct node *parent, const char *name)
{
    if (node->parent == parent && !strcmp(node->name, name))
        nodes_unplace(nodes, node);
}

struct node *nodes_find(const struct nodes *nodes, uint64_t id)
{
    struct node *node = slots_find(&nodes->slots, id);

    return node && node->lookups ? node : NULL; /* else it is there for its children only */
}

int nodes_init(struct nodes *nodes, const struct statx *root, int root_fd, unsigned open_max)
{
    *nodes = (struct nodes){ .bucket_mask = FIRST_BUCKETS - 1, .open_max = open_max };
    slots_init(&nodes->slots, NODES_MAX);
    nodes->buckets = calloc(FIRST_BUCKETS, sizeof(struct node *));
    if (nodes->buckets)
        nodes->root = nodes_create(nodes, root);
    if (!nodes->root) {
        free(nodes->buckets);
        slots_finish(&nodes->slots);
        return -ENOMEM;
    }
    nodes->root->fd = root_fd;
    nodes->root->lookups = 1;
    return 0;
}

void nodes_clear(struct nodes *nodes)
{
    uint32_t place = 0;
    struct node *node;

    while ((node = slots_next(&nodes->slots, &place)))
        if (node != nodes->root)
            nodes_destroy(nodes, node);
    nodes->root->children = 0;
}

void nodes_finish(struct nodes *nodes)
{
    nodes_clear(nodes);
    close(nodes->root->fd);
    nodes_destroy(nodes, nodes->root);
    slots_finish(&nodes->slots);
    free(nodes->buckets);
}
