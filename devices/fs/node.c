/* SPDX-License-Identifier: MIT */
#include "devices/fs/node.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"

#define FIRST_BUCKETS 64u

static struct identity identity_of(const struct statx *seen)
{
    return (struct identity){
        .ino = seen->stx_ino,
        .dev_major = seen->stx_dev_major,
        .dev_minor = seen->stx_dev_minor,
        .mount = seen->stx_mask & STATX_MNT_ID ? seen->stx_mnt_id : 0,
        .born = seen->stx_mask & STATX_BTIME
                    ? (uint64_t)seen->stx_btime.tv_sec * 1000000000u + seen->stx_btime.tv_nsec
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

bool node_name_ok(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") &&
           strlen(name) <= NAME_MAX;
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
        node->superseded = true;
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

/* State. */

/*
 * A host numbers mounts, and many filesystems, anew with every boot and for every namespace of
 * mounts. So a file on the root's mount, as nearly all are, is saved as one that is on `home`, to
 * be looked for on the mount the root is on when it is loaded. What is mounted within the share
 * keeps its numbers: elsewhere they are another mount's or nobody's, and its files are stale.
 */
static void identity_state(struct identity *identity, const struct identity *home, struct state *s)
{
    bool elsewhere = identity->mount != home->mount || identity->dev_major != home->dev_major ||
                     identity->dev_minor != home->dev_minor;

    state_field(s, identity, ino);
    state_field(s, identity, born);
    state_field(s, identity, type);
    state_bool(s, "elsewhere", &elsewhere);
    if (!elsewhere) {
        identity->mount = home->mount;
        identity->dev_major = home->dev_major;
        identity->dev_minor = home->dev_minor;
        return;
    }
    state_field(s, identity, mount);
    state_field(s, identity, dev_major);
    state_field(s, identity, dev_minor);
}

/*
 * The root is the directory the share is opened with, whichever that is. If it is not the one that
 * was saved, nothing of that one's is here: no file is on a device 0:0.
 */
static struct identity nodes_home_state(struct nodes *nodes, struct state *s)
{
    struct identity home = nodes->root->identity;
    struct identity saved = home;

    state_u64(s, "root_ino", &saved.ino);
    state_u64(s, "root_born", &saved.born);
    if (!identity_equal(&saved, &home))
        home.mount = home.dev_major = home.dev_minor = 0;
    return home;
}

/* The fields of a node but for its parent. */
static void node_state(struct node *node, const struct identity *home, struct state *s)
{
    state_field(s, node, id);
    identity_state(&node->identity, home, s);
    state_field(s, node, lookups);
    state_field(s, node, hidden);
    state_field(s, node, superseded);
    state_u64(s, "opened_mtime", &node->opened.mtime);
    state_u64(s, "opened_size", &node->opened.size);
}

static void node_save(struct node *node, const struct identity *home, struct state *s)
{
    uint64_t parent = node->parent ? node->parent->id : 0;
    uint32_t length = node->name ? (uint32_t)strlen(node->name) : 0;

    node_state(node, home, s);
    state_u64(s, "parent", &parent);
    state_data(s, "name", node->name, &length, NAME_MAX);
}

/*
 * Every node but the root, and each behind its parent. False: out of memory. Each node goes onto
 * the way up once, so that this takes no longer than there are nodes.
 */
static bool nodes_save_all(struct nodes *nodes, const struct identity *home, struct state *s)
{
    cleanup_free struct node **way = calloc(nodes->count, sizeof(struct node *));
    struct node *node;
    uint32_t place = 0;

    if (!way)
        return false;
    nodes->root->listed = true;
    while ((node = slots_next(&nodes->slots, &place))) {
        uint32_t length = 0;

        for (; node && !node->listed; node = node->parent) {
            node->listed = true;
            way[length++] = node;
        }
        while (length > 0)
            node_save(way[--length], home, s);
    }
    place = 0;
    while ((node = slots_next(&nodes->slots, &place)))
        node->listed = false;
    return true;
}

/* Takes over a node of the heap; false if there is none such. */
static bool nodes_adopt(struct nodes *nodes, struct node *node, uint64_t parent_id,
                        const char *name)
{
    struct node *parent = slots_find(&nodes->slots, parent_id);

    /* Its parent was there before it: so every way up ends. */
    if (parent ? !S_ISDIR(parent->identity.type) || !node_name_ok(name) : parent_id || *name)
        return false;
    if (parent && !(node->name = strdup(name)))
        return false;
    if (!slots_put(&nodes->slots, node->id, node))
        return false;
    node->parent = parent;
    if (parent)
        parent->children++;
    nodes->count++;
    nodes_grow(nodes);
    if (!node->superseded)
        nodes_hash(nodes, node);
    return true;
}

static void nodes_load_one(struct nodes *nodes, const struct identity *home, struct state *s)
{
    struct node *node = calloc(1, sizeof(*node));
    char name[NAME_MAX + 1] = "";
    uint64_t parent = 0;
    uint32_t length = 0;

    if (!node) {
        state_fail(s, "out of memory");
        return;
    }
    node->fd = -1;
    node_state(node, home, s);
    state_u64(s, "parent", &parent);
    state_data(s, "name", name, &length, NAME_MAX);
    if (!s->error && strlen(name) == length && nodes_adopt(nodes, node, parent, name))
        return;
    state_fail(s, "node %#llx cannot be in %#llx", (unsigned long long)node->id,
               (unsigned long long)parent);
    free(node->name);
    free(node);
}

void nodes_state(struct nodes *nodes, struct state *s)
{
    struct identity home = nodes_home_state(nodes, s);
    uint32_t count;

    assert(!s->loading || nodes->count == 1);
    count = slots_state(&nodes->slots, s);

    if (!s->loading && !nodes_save_all(nodes, &home, s))
        state_fail(s, "out of memory");
    while (s->loading && !s->error && nodes->count < count)
        nodes_load_one(nodes, &home, s);
}
