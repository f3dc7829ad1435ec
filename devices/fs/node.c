/* SPDX-License-Identifier: MIT */
#include "devices/fs/node.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/fs/budget.h"
#include "devices/fs/files.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"

#define FIRST_BUCKETS 64u

static struct identity identity_of(const struct statx *attr)
{
    return (struct identity){
        .ino = attr->stx_ino,
        .dev_major = attr->stx_dev_major,
        .dev_minor = attr->stx_dev_minor,
        .mount = attr->stx_mask & STATX_MNT_ID ? attr->stx_mnt_id : 0,
        .born = attr->stx_mask & STATX_BTIME
                    ? (uint64_t)attr->stx_btime.tv_sec * 1000000000u + attr->stx_btime.tv_nsec
                    : 0,
        .type = attr->stx_mode & S_IFMT,
    };
}

static bool identity_equal(const struct identity *a, const struct identity *b)
{
    return a->ino == b->ino && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
           a->mount == b->mount && a->born == b->born && a->type == b->type;
}

bool node_matches(const struct node *node, const struct statx *attr)
{
    struct identity identity = identity_of(attr);

    return identity_equal(&node->identity, &identity);
}

bool node_has_type(const struct node *node, const struct statx *attr)
{
    return node->identity.type == (attr->stx_mode & S_IFMT);
}

bool node_name_valid(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") &&
           strlen(name) <= NAME_MAX;
}

static struct node **nodes_bucket(const struct nodes *nodes, uint64_t key)
{
    return &nodes->buckets[key * 0x9e3779b97f4a7c15u >> 32 & nodes->bucket_mask];
}

static struct node **nodes_identity_bucket(const struct nodes *nodes,
                                           const struct identity *identity)
{
    return nodes_bucket(nodes, identity->ino ^ (uint64_t)identity->dev_minor << 40);
}

static struct node **nodes_place_bucket(const struct nodes *nodes, const struct node *parent,
                                        const char *name)
{
    return nodes_bucket(nodes, hash_bytes(parent->id, name, strlen(name)));
}

/* The chain in which a lookup finds the node; NULL: none, as with `by_place` it has no place. */
static struct node **nodes_bucket_of(const struct nodes *nodes, const struct node *node)
{
    if (!nodes->by_place)
        return nodes_identity_bucket(nodes, &node->identity);
    return node->parent ? nodes_place_bucket(nodes, node->parent, node->name) : NULL;
}

static void nodes_hash(struct nodes *nodes, struct node *node)
{
    struct node **bucket = nodes_bucket_of(nodes, node);

    if (!bucket)
        return;
    node->hash_next = *bucket;
    *bucket = node;
}

static void nodes_unhash(struct nodes *nodes, struct node *node)
{
    struct node **link = nodes_bucket_of(nodes, node);

    while (link && *link && *link != node)
        link = &(*link)->hash_next;
    if (link && *link)
        *link = node->hash_next;
}

/* If there is no memory for more buckets, chains get longer, and lookups slower. */
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

struct node *nodes_find_identity(const struct nodes *nodes, const struct statx *attr)
{
    struct identity identity = identity_of(attr);
    struct node *node = *nodes_identity_bucket(nodes, &identity);

    while (node && !identity_equal(&node->identity, &identity))
        node = node->hash_next;
    return node;
}

struct node *nodes_find_place(const struct nodes *nodes, const struct node *parent,
                              const char *name)
{
    struct node *node = *nodes_place_bucket(nodes, parent, name);

    while (node && (node->parent != parent || strcmp(node->name, name) != 0))
        node = node->hash_next;
    return node;
}

/* Creates a node that no lookup finds yet. NULL: out of memory, or of budget. */
static struct node *nodes_create(struct nodes *nodes, const struct statx *attr)
{
    struct node *node = budget_take(&nodes->budget->objects) ? calloc(1, sizeof(*node)) : NULL;

    if (!node || !(node->id = slots_add(&nodes->slots, node))) {
        budget_put(&nodes->budget->objects);
        free(node);
        return NULL;
    }
    node->identity = identity_of(attr);
    node->fd = node->former_fd = -1;
    nodes->count++;
    return node;
}

static void nodes_lru_remove(struct nodes *nodes, struct node *node)
{
    *(node->lru_newer ? &node->lru_newer->lru_older : &nodes->lru_first) = node->lru_older;
    *(node->lru_older ? &node->lru_older->lru_newer : &nodes->lru_last) = node->lru_newer;
    node->lru_newer = node->lru_older = NULL;
    nodes->cached--;
}

static void nodes_evict_fd(struct nodes *nodes, struct node *node)
{
    nodes_lru_remove(nodes, node);
    close(node->fd);
    node->fd = -1;
}

static void nodes_lru_add(struct nodes *nodes, struct node *node)
{
    node->lru_older = nodes->lru_first;
    *(nodes->lru_first ? &nodes->lru_first->lru_newer : &nodes->lru_last) = node;
    nodes->lru_first = node;
    nodes->cached++;
}

void nodes_cache_fd(struct nodes *nodes, struct node *node, int fd)
{
    struct node *oldest = nodes->lru_last;

    while (oldest && oldest->pins > 0)
        oldest = oldest->lru_newer;
    if (oldest && nodes->cached >= nodes->budget->directories)
        nodes_evict_fd(nodes, oldest);
    node->fd = fd;
    nodes_lru_add(nodes, node);
}

void nodes_mark_used(struct nodes *nodes, struct node *node)
{
    if (node == nodes->root || node == nodes->lru_first)
        return;
    nodes_lru_remove(nodes, node);
    nodes_lru_add(nodes, node);
}

/* Other requests that have pinned the node may be using its descriptor: it is closed by the last.
 */
void nodes_retire_fd(struct nodes *nodes, struct node *node)
{
    if (node->fd < 0 || node->former_fd >= 0)
        return;
    nodes_lru_remove(nodes, node);
    node->former_fd = node->fd;
    node->fd = -1;
}

bool nodes_rebind(struct nodes *nodes, struct node *node, const struct statx *attr)
{
    if (node == nodes->root || (node->fd >= 0 && node->former_fd >= 0))
        return false;
    nodes_retire_fd(nodes, node);
    for (struct open_file *file = node->files; file; file = file->next)
        file->former = true;
    node->identity = identity_of(attr);
    node->opened.mtime = node->opened.size = 0;
    node->absent = 0;
    return true;
}

/* Frees a node that nothing but the tables refers to. */
static void nodes_destroy(struct nodes *nodes, struct node *node)
{
    nodes_unhash(nodes, node);
    if (node != nodes->root && node->fd >= 0)
        nodes_evict_fd(nodes, node);
    if (node->former_fd >= 0)
        close(node->former_fd);
    slots_remove(&nodes->slots, node->id);
    budget_put(&nodes->budget->objects);
    nodes->count--;
    free(node->name);
    free(node);
}

void nodes_release(struct nodes *nodes, struct node *node)
{
    while (node && !node->lookups && !node->children && !node->files && !node->pins) {
        struct node *parent = node->parent;

        nodes_destroy(nodes, node);
        if (parent)
            parent->children--;
        node = parent;
    }
}

struct node_pin nodes_pin(struct nodes *nodes, struct node *node)
{
    if (node)
        node->pins++;
    return (struct node_pin){ nodes, node };
}

void node_unpin(struct node_pin *pin)
{
    struct node *node = pin->node;

    if (!node)
        return;
    node->pins--;
    if (node->pins == 0 && node->former_fd >= 0) {
        close(node->former_fd);
        node->former_fd = -1;
    }
    nodes_release(pin->nodes, node);
}

void nodes_forget(struct nodes *nodes, struct node *node, uint64_t count)
{
    if (node == nodes->root)
        return;
    node->lookups -= count < node->lookups ? count : node->lookups;
    nodes_release(nodes, node);
}

static void nodes_detach(struct nodes *nodes, struct node *node)
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
 * Sets the node's parent and name. False: out of memory, or `node` is an ancestor of `parent`, as
 * can happen when the host moves directories. Such a file needs a new node, to prevent a cycle.
 */
static bool nodes_attach(struct nodes *nodes, struct node *node, struct node *parent,
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
    parent->children++; /* first, so that nodes_detach() does not free it */
    nodes_detach(nodes, node);
    node->parent = parent;
    node->name = copy;
    return true;
}

int nodes_insert(struct nodes *nodes, struct node **ret, const struct statx *attr,
                 struct node *parent, const char *name)
{
    struct node *node =
        nodes->by_place ? nodes_find_place(nodes, parent, name) : nodes_find_identity(nodes, attr);

    if (node && !nodes_attach(nodes, node, parent, name)) {
        nodes_unhash(nodes, node);
        node->superseded = true;
        node = NULL;
    }
    if (!node) {
        node = nodes_create(nodes, attr);
        if (!node)
            return -ENFILE;
        if (!nodes_attach(nodes, node, parent, name)) {
            nodes_release(nodes, node);
            return -ENOMEM;
        }
        nodes_grow(nodes);
        nodes_hash(nodes, node);
    }
    node->lookups++;
    *ret = node;
    return 0;
}

void nodes_move(struct nodes *nodes, struct node *node, struct node *parent, const char *name)
{
    if (!nodes_attach(nodes, node, parent, name))
        nodes_detach(nodes, node);
}

void nodes_unlink(struct nodes *nodes, struct node *node, struct node *parent, const char *name)
{
    if (node->parent == parent && !strcmp(node->name, name))
        nodes_detach(nodes, node);
}

struct node *nodes_find(const struct nodes *nodes, uint64_t id)
{
    struct node *node = slots_find(&nodes->slots, id);

    return node && node->lookups ? node : NULL; /* 0: forgotten, but still needed */
}

int nodes_init(struct nodes *nodes, const struct statx *root, int root_fd, bool by_place,
               struct share_budget *budget)
{
    *nodes =
        (struct nodes){ .bucket_mask = FIRST_BUCKETS - 1, .by_place = by_place, .budget = budget };
    slots_init(&nodes->slots, budget->objects.max);
    nodes->buckets = calloc(FIRST_BUCKETS, sizeof(struct node *));
    if (nodes->buckets)
        nodes->root = nodes_create(nodes, root);
    if (!nodes->root) {
        free(nodes->buckets);
        slots_finish(&nodes->slots);
        return -ENOMEM;
    }
    nodes_hash(nodes, nodes->root);
    nodes->root->fd = root_fd;
    nodes->root->lookups = 1;
    return 0;
}

void nodes_clear(struct nodes *nodes)
{
    uint32_t cursor = 0;
    struct node *node;

    while ((node = slots_next(&nodes->slots, &cursor)))
        if (node != nodes->root) {
            node->lookups = 0;
            nodes_release(nodes, node);
        }
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
 * Mount ids, and many device numbers, change with each boot and mount namespace. A file on the
 * root's mount, as nearly all are, is therefore saved without them, and gets those of the root when
 * loaded. A file on a mount within the share ("elsewhere") keeps its numbers: if they mean another
 * mount or none when loaded, it is stale.
 */
static void identity_state(struct identity *identity, const struct identity *root, struct state *s)
{
    bool elsewhere = identity->mount != root->mount || identity->dev_major != root->dev_major ||
                     identity->dev_minor != root->dev_minor;

    state_field(s, identity, ino);
    state_field(s, identity, born);
    state_field(s, identity, type);
    state_bool(s, "elsewhere", &elsewhere);
    if (!elsewhere) {
        identity->mount = root->mount;
        identity->dev_major = root->dev_major;
        identity->dev_minor = root->dev_minor;
        return;
    }
    state_field(s, identity, mount);
    state_field(s, identity, dev_major);
    state_field(s, identity, dev_minor);
}

/*
 * The root's identity. If the share was opened with another directory than the saved one, the mount
 * and device are set to 0, which no file has: all nodes loaded become stale.
 */
static struct identity nodes_root_state(struct nodes *nodes, struct state *s)
{
    struct identity root = nodes->root->identity;
    struct identity saved = root;

    state_u64(s, "root_ino", &saved.ino);
    state_u64(s, "root_born", &saved.born);
    if (!identity_equal(&saved, &root))
        root.mount = root.dev_major = root.dev_minor = 0;
    return root;
}

/* The fields of a node, except its parent and name. */
static void node_state(struct node *node, const struct identity *root, struct state *s)
{
    state_field(s, node, id);
    identity_state(&node->identity, root, s);
    state_field(s, node, lookups);
    state_field(s, node, hidden);
    state_field(s, node, superseded);
    state_u64(s, "opened_mtime", &node->opened.mtime);
    state_u64(s, "opened_size", &node->opened.size);
}

static void node_save(struct node *node, const struct identity *root, struct state *s)
{
    uint64_t parent = node->parent ? node->parent->id : 0;
    uint32_t length = node->name ? (uint32_t)strlen(node->name) : 0;

    node_state(node, root, s);
    state_u64(s, "parent", &parent);
    state_data(s, "name", node->name, &length, NAME_MAX);
}

/*
 * Saves every node but the root, parents first. `path` is the way from a node up to the first one
 * already saved: each node is on it once, so the time is linear. False: out of memory.
 */
static bool nodes_save_all(struct nodes *nodes, const struct identity *root, struct state *s)
{
    cleanup_free struct node **path = calloc(nodes->count, sizeof(struct node *));
    struct node *node;
    uint32_t cursor = 0;

    if (!path)
        return false;
    nodes->root->saved = true;
    while ((node = slots_next(&nodes->slots, &cursor))) {
        uint32_t length = 0;

        for (; node && !node->saved; node = node->parent) {
            node->saved = true;
            path[length++] = node;
        }
        while (length > 0)
            node_save(path[--length], root, s);
    }
    cursor = 0;
    while ((node = slots_next(&nodes->slots, &cursor)))
        node->saved = false;
    return true;
}

/* Adds a loaded node, which the table then owns. False: invalid, or out of memory. */
static bool nodes_adopt(struct nodes *nodes, struct node *node, uint64_t parent_id,
                        const char *name)
{
    struct node *parent = slots_find(&nodes->slots, parent_id);

    /* The parent must have been loaded before: this excludes cycles. */
    if (parent ? !S_ISDIR(parent->identity.type) || !node_name_valid(name) : parent_id || *name)
        return false;
    if (parent && !(node->name = strdup(name)))
        return false;
    if (!budget_take(&nodes->budget->objects) || !slots_restore(&nodes->slots, node->id, node)) {
        budget_put(&nodes->budget->objects);
        return false;
    }
    node->parent = parent;
    if (parent)
        parent->children++;
    nodes->count++;
    nodes_grow(nodes);
    if (!node->superseded)
        nodes_hash(nodes, node);
    return true;
}

static void nodes_load_one(struct nodes *nodes, const struct identity *root, struct state *s)
{
    struct node *node = calloc(1, sizeof(*node));
    char name[NAME_MAX + 1] = "";
    uint64_t parent = 0;
    uint32_t length = 0;

    if (!node) {
        state_fail(s, "out of memory");
        return;
    }
    node->fd = node->former_fd = -1;
    node_state(node, root, s);
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
    struct identity root = nodes_root_state(nodes, s);
    uint32_t count;

    if (s->loading && nodes->count != 1)
        state_fail(s, "the share is in use already");
    count = slots_state(&nodes->slots, s);

    if (!s->loading && !nodes_save_all(nodes, &root, s))
        state_fail(s, "out of memory");
    while (s->loading && !s->error && nodes->count < count)
        nodes_load_one(nodes, &root, s);
}
