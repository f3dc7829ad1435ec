/* SPDX-License-Identifier: MIT */
#include "devices/fs/share.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "devices/fs/budget.h"
#include "devices/fs/confine.h"
#include "devices/fs/share_internal.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define HANDLE_FLAGS   (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC)
#define DIRENT_TYPICAL 40u    /* bytes of a directory entry */
#define DIRENTS_SIZE   32768u /* bytes per getdents64() */

int share_open(struct share **ret, const struct share_options *options, struct share_budget *budget,
               struct loop *loop)
{
    cleanup_free struct share *share = calloc(1, sizeof(*share));
    int error;

    assert(!options->overlaid || !options->writable);
    if (!share)
        return log_error(ENOMEM, "share %s", options->path);
    error = tree_open(&share->tree, options, budget, loop);
    if (error)
        return error;
    slots_init(&share->handles, budget->objects.max);
    owners_init(&share->owners, options);
    share->budget = budget;
    share->writable = options->writable;
    share->guarded = options->guarded;
    pthread_mutex_init(&share->names, NULL);
    if (share->writable)
        umask(0); /* modes come from the guest, which applied its umask */
    *ret = share;
    share = NULL;
    return 0;
}

static void share_free_handle(struct share *share, struct handle *handle)
{
    files_put(&share->tree, handle->file);
    budget_put(&share->budget->objects);
    free(handle);
}

void share_forget_all(struct share *share)
{
    uint32_t cursor = 0;
    struct handle *handle;

    while ((handle = slots_next(&share->handles, &cursor))) {
        slots_remove(&share->handles, handle->id);
        share_free_handle(share, handle);
    }
    nodes_clear(&share->tree.nodes);
}

void share_close(struct share *share)
{
    share_forget_all(share);
    slots_finish(&share->handles);
    owners_finish(&share->owners);
    pthread_mutex_destroy(&share->names);
    tree_close(&share->tree);
    free(share);
}

bool share_writable(const struct share *share)
{
    return share->writable;
}

bool share_is_overlaid(const struct share *share)
{
    return share->tree.nodes.by_place;
}

struct landlock_tree share_tree(const struct share *share)
{
    return (struct landlock_tree){ share->tree.nodes.root->fd, share->writable };
}

void share_confine(void *share)
{
    struct landlock_tree tree = share_tree(share);

    confine_thread(tree.fd, tree.writable);
}

/* Nodes. */

/* Replaces the host's owner and inode number by those that the guest is shown. */
static void share_map_attr(struct share *share, const struct node *node, struct statx *attr)
{
    owners_show(&share->owners, attr);
    attr->stx_ino = tree_ino(&share->tree, &node->identity, attr->stx_ino);
}

static int share_fill_entry(struct share *share, const struct node *node, struct share_entry *entry)
{
    share_map_attr(share, node, &entry->attr);
    entry->node = node->id;
    return 0;
}

int share_lookup_at(struct share *share, struct node *parent, const char *name,
                    struct share_entry *ret)
{
    struct node *node;
    int error = tree_lookup(&share->tree, parent, name, &node, &ret->attr, &ret->gone);

    return error ? error : share_fill_entry(share, node, ret);
}

int share_lookup(struct share *share, uint64_t parent, const char *name, struct share_entry *ret)
{
    struct node *directory = share_find_node(share, parent);

    NODE_SCOPE(&share->tree.nodes, directory);
    return directory ? share_lookup_at(share, directory, name, ret) : -ESTALE;
}

int share_lookup_entry(struct share *share, uint64_t parent, const char *name,
                       struct share_entry *ret)
{
    struct node *directory = share_find_node(share, parent), *node;
    int error;

    NODE_SCOPE(&share->tree.nodes, directory);
    if (!directory)
        return -ESTALE;
    error = tree_lookup_entry(&share->tree, directory, name, &node, &ret->attr, &ret->gone);
    return error ? error : share_fill_entry(share, node, ret);
}

void share_forget(struct share *share, uint64_t id, uint64_t count)
{
    struct node *node = share_find_node(share, id);

    if (node)
        nodes_forget(&share->tree.nodes, node, count);
}

int share_getattr(struct share *share, uint64_t id, struct statx *ret)
{
    struct node *node = share_find_node(share, id);
    int error;

    NODE_SCOPE(&share->tree.nodes, node);
    error = node ? tree_stat(&share->tree, node, ret) : -ESTALE;
    if (!error)
        share_map_attr(share, node, ret);
    return error;
}

int share_readlink(struct share *share, uint64_t id, char *target, size_t size)
{
    struct node *node = share_find_node(share, id);
    cleanup_close int fd = -1;

    NODE_SCOPE(&share->tree.nodes, node);
    fd = node ? tree_open_path(&share->tree, node, NULL) : -ESTALE;
    if (fd < 0)
        return fd;
    if (!S_ISLNK(node->identity.type))
        return -EINVAL;
    return (int)TREE_CALL(&share->tree, readlinkat(fd, "", target, size));
}

int share_statfs(struct share *share, uint64_t id, struct statfs *ret)
{
    struct node *node = share_find_node(share, id);
    cleanup_close int fd = -1;

    NODE_SCOPE(&share->tree.nodes, node);
    fd = node ? tree_open_path(&share->tree, node, NULL) : -ESTALE;
    return fd < 0 ? fd : (int)TREE_CALL(&share->tree, fstatfs(fd, ret));
}

uint64_t share_device(const struct share *share, uint64_t id)
{
    const struct node *node = share_find_node(share, id);

    return node ? (uint64_t)node->identity.dev_major << 32 | node->identity.dev_minor : 0;
}

/* Handles. */

/* NULL: there is no such handle of this node. */
static struct handle *share_find_handle(const struct share *share, uint64_t node, uint64_t id)
{
    struct handle *handle = slots_find(&share->handles, id);

    return handle && handle->file->node->id == node ? handle : NULL;
}

struct open_file *share_find_file(const struct share *share, uint64_t node, uint64_t id,
                                  uint32_t *flags)
{
    const struct handle *handle = share_find_handle(share, node, id);

    if (!handle)
        return NULL;
    if (flags)
        *flags = handle->flags;
    return handle->file;
}

int share_add_handle(struct share *share, struct open_file *file, uint32_t flags,
                     struct share_opened *ret)
{
    struct handle *handle =
        budget_take(&share->budget->objects) ? calloc(1, sizeof(*handle)) : NULL;

    if (!handle || !(handle->id = slots_add(&share->handles, handle))) {
        budget_put(&share->budget->objects);
        files_put(&share->tree, file);
        free(handle);
        return -ENFILE;
    }
    handle->file = file;
    handle->flags = flags & HANDLE_FLAGS;
    ret->handle = handle->id;
    return 0;
}

int share_release(struct share *share, uint64_t node, uint64_t id)
{
    struct handle *handle = share_find_handle(share, node, id);

    if (!handle)
        return -EBADF;
    slots_remove(&share->handles, id);
    share_free_handle(share, handle);
    return 0;
}

uint32_t share_open_flags(uint32_t flags)
{
    return flags & (O_ACCMODE | O_TRUNC | O_DSYNC | O_SYNC);
}

/* Records the file's mtime and size. True: they are the same as at the last open. */
static bool share_update_opened(struct node *node, const struct statx *now)
{
    uint64_t mtime = (uint64_t)now->stx_mtime.tv_sec * 1000000000u + now->stx_mtime.tv_nsec;
    bool same = node->opened.mtime == mtime && node->opened.size == now->stx_size;

    node->opened.mtime = mtime;
    node->opened.size = now->stx_size;
    return same;
}

/* Through a descriptor open for writing, or -1. */
static int share_truncate(struct share *share, struct node *node, int fd)
{
    int opened = fd < 0 ? tree_open_file(&share->tree, node, O_WRONLY, NULL) : -1;
    int error;

    fd = fd < 0 ? opened : fd;
    if (fd < 0)
        return fd;
    error = (int)TREE_CALL(&share->tree, ftruncate(fd, 0));
    if (opened >= 0)
        TREE_CALL(&share->tree, close(opened));
    return error;
}

/* Opens the file for `flags` of open(), with its attributes before it is truncated. */
static int share_open_at(struct share *share, struct node *node, uint32_t flags,
                         struct open_file **ret, struct statx *before)
{
    struct tree *tree = &share->tree;
    struct open_file *file;
    int error = files_open(tree, ret, node, (int)(flags & O_ACCMODE), before);

    if (error || !(flags & O_TRUNC))
        return error;
    file = *ret;
    FILE_SCOPE(tree, file);
    error = share_truncate(share, node, flags & O_ACCMODE ? file->fd : -1);
    if (error)
        file->handles--;
    return error;
}

int share_open_file(struct share *share, uint64_t id, uint32_t flags, struct share_opened *ret)
{
    struct node *node = share_find_node(share, id);
    struct open_file *file;
    struct statx before;
    int error;

    if (!node)
        return -ESTALE;
    if (!share->writable && flags & (O_ACCMODE | O_TRUNC))
        return -EROFS;
    if ((flags & O_ACCMODE) == O_ACCMODE)
        return -EINVAL;
    /* Opening a device or pipe can have side effects on the host; the guest opens its own. */
    if (!S_ISREG(node->identity.type))
        return S_ISDIR(node->identity.type) ? -EISDIR : -ENXIO;
    NODE_SCOPE(&share->tree.nodes, node);
    error = share_open_at(share, node, flags, &file, &before);
    if (error)
        return error;
    ret->unchanged = share_update_opened(node, &before) && !(flags & O_TRUNC);
    return share_add_handle(share, file, flags, ret);
}

int share_open_directory(struct share *share, uint64_t id, struct share_opened *ret)
{
    struct node *node = share_find_node(share, id);
    struct open_file *file;
    int error;

    if (!node)
        return -ESTALE;
    if (!S_ISDIR(node->identity.type))
        return -ENOTDIR;
    NODE_SCOPE(&share->tree.nodes, node);
    error = files_open(&share->tree, &file, node, O_RDONLY, NULL);
    if (error)
        return error;
    ret->unchanged = false;
    return share_add_handle(share, file, 0, ret);
}

ssize_t share_read(struct share *share, uint64_t node, uint64_t id, const struct iovec *iov,
                   unsigned count, uint64_t offset)
{
    struct open_file *file = share_find_file(share, node, id, NULL);
    int fd;

    FILE_SCOPE(&share->tree, file);
    fd = share_file_fd(share, file);
    if (fd < 0)
        return fd;
    return TREE_CALL(&share->tree, preadv(fd, iov, (int)count, (off_t)offset));
}

int64_t share_seek(struct share *share, uint64_t node, uint64_t id, uint64_t offset,
                   unsigned whence)
{
    struct open_file *file = share_find_file(share, node, id, NULL);
    int fd;

    FILE_SCOPE(&share->tree, file);
    fd = share_file_fd(share, file);
    if (fd < 0)
        return fd;
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    return TREE_CALL(&share->tree, lseek(fd, (off_t)offset, (int)whence));
}

/* Emits a buffer of entries; *offset becomes that of the next. False: `emit` took no more. */
static bool share_emit_entries(struct share *share, const struct node *node, const char *dirents,
                               size_t size, uint64_t *offset,
                               bool (*emit)(void *owner, const struct share_dirent *entry),
                               void *owner)
{
    for (size_t at = 0; at < size;) {
        const struct dirent64 *host = (const struct dirent64 *)(dirents + at);
        const struct share_dirent entry = {
            .name = host->d_name,
            .length = strlen(host->d_name),
            .ino = tree_ino(&share->tree, &node->identity, host->d_ino),
            .next = (uint64_t)host->d_off,
            .type = host->d_type,
        };

        if (!emit(owner, &entry))
            return false;
        *offset = entry.next;
        at += host->d_reclen;
    }
    return true;
}

int share_read_directory(struct share *share, uint64_t node, uint64_t id, uint64_t offset,
                         size_t count, bool (*emit)(void *owner, const struct share_dirent *entry),
                         void *owner)
{
    UNINITIALIZED _Alignas(uint64_t) char dirents[DIRENTS_SIZE];
    struct open_file *file = share_find_file(share, node, id, NULL);
    size_t most = sizeof(struct dirent64) + count * DIRENT_TYPICAL;
    long size;
    int fd;

    FILE_SCOPE(&share->tree, file);
    fd = share_file_fd(share, file);
    if (fd < 0)
        return fd;
    size = TREE_CALL(&share->tree, lseek(fd, (off_t)offset, SEEK_SET));
    if (size < 0)
        return (int)size;
    if (most > sizeof(dirents))
        most = sizeof(dirents);
    do
        size = TREE_CALL(&share->tree, getdents64(fd, dirents, most));
    while (size > 0 &&
           share_emit_entries(share, file->node, dirents, (size_t)size, &offset, emit, owner));
    return size < 0 ? (int)size : 0;
}

/* State. */

/* Could share_open_file() or share_open_directory() have created such a handle? */
static bool share_handle_allowed(const struct share *share, const struct node *node, uint32_t flags)
{
    if (flags & ~(uint32_t)HANDLE_FLAGS || (!share->writable && flags & O_ACCMODE))
        return false;
    return S_ISREG(node->identity.type) || (S_ISDIR(node->identity.type) && !flags);
}

/* A directory handle needs no position: each READDIR has its own. */
static void share_handle_state(struct handle *handle, uint64_t *node, struct state *s)
{
    state_field(s, handle, id);
    state_u64(s, "node", node);
    state_field(s, handle, flags);
}

/* Loads a handle without opening its file. NULL: error in `s`. */
static struct handle *share_load_handle(struct share *share, struct state *s)
{
    struct handle *handle = calloc(1, sizeof(*handle));
    struct node *node;
    uint64_t id = 0;

    if (!budget_take(&share->budget->objects) || !handle) {
        state_fail(s, "out of memory");
        budget_put(&share->budget->objects);
        free(handle);
        return NULL;
    }
    share_handle_state(handle, &id, s);
    node = slots_find(&share->tree.nodes.slots, id); /* may be forgotten: nodes_find() would fail */
    if (!s->error && node && share_handle_allowed(share, node, handle->flags) &&
        slots_restore(&share->handles, handle->id, handle)) {
        if (!files_restore(&share->tree, &handle->file, node, (int)(handle->flags & O_ACCMODE)))
            return handle;
        slots_remove(&share->handles, handle->id);
    }
    state_fail(s, "handle %#llx is not valid for node %#llx", (unsigned long long)handle->id,
               (unsigned long long)id);
    budget_put(&share->budget->objects);
    free(handle);
    return NULL;
}

static unsigned share_load_handles(struct share *share, uint32_t count, struct state *s)
{
    unsigned lost = 0;

    for (; count > 0; count--) {
        const struct handle *handle = share_load_handle(share, s);

        if (!handle)
            return 0;
        lost += files_fd(&share->tree, handle->file) < 0;
    }
    return lost;
}

unsigned share_state(struct share *share, struct state *s)
{
    uint32_t count, cursor = 0;
    struct handle *handle;

    state_same(s, "writable", share->writable);
    tree_state(&share->tree, s);
    owners_state(&share->owners, &share->tree.nodes.root->identity, s);
    count = slots_state(&share->handles, s);
    if (s->loading)
        return share_load_handles(share, count, s);
    while ((handle = slots_next(&share->handles, &cursor)))
        share_handle_state(handle, &handle->file->node->id, s);
    return 0;
}
