/* SPDX-License-Identifier: MIT */
#include "devices/fs/share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "devices/fs/confine.h"
#include "devices/fs/share_internal.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define NODES_FRACTION  4 /* one in so many descriptors caches a directory */
#define DESCRIPTORS_MAX 8192
#define HANDLE_FLAGS    (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC)
#define DIRENT_TYPICAL  40u /* bytes of a directory entry */

unsigned share_descriptors(unsigned shares)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return SHARE_DESCRIPTORS_MIN;
    if (limit.rlim_cur < DESCRIPTORS_MAX && limit.rlim_cur < limit.rlim_max) {
        rlim_t before = limit.rlim_cur;

        limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            limit.rlim_cur = before;
    }
    if (limit.rlim_cur > DESCRIPTORS_MAX)
        limit.rlim_cur = DESCRIPTORS_MAX;
    return (unsigned)limit.rlim_cur / 2 / shares;
}

int share_open(struct share **ret, const struct share_options *options, unsigned descriptors)
{
    cleanup_free struct share *share = calloc(1, sizeof(*share));
    unsigned directories = descriptors / NODES_FRACTION;
    int error;

    if (!share)
        return log_error(ENOMEM, "share %s", options->path);
    if (descriptors < SHARE_DESCRIPTORS_MIN)
        return log_refuse(EMFILE,
                          "share %s: too many directories for so few open files "
                          "(see ulimit -n)",
                          options->path);
    if (directories > NODES_CACHED)
        directories = NODES_CACHED;
    error = tree_open(&share->tree, options->path, directories);
    if (error)
        return error;
    slots_init(&share->handles, descriptors - directories);
    owners_init(&share->owners, options);
    share->writable = options->writable;
    share->xattrs = !options->no_xattrs;
    if (share->writable)
        umask(0); /* modes come from the guest, which applied its umask */
    *ret = share;
    share = NULL;
    return 0;
}

static void share_free_handle(struct handle *handle)
{
    if (handle->fd >= 0)
        close(handle->fd);
    free(handle);
}

void share_forget_all(struct share *share)
{
    uint32_t cursor = 0;
    struct handle *handle;

    while ((handle = slots_next(&share->handles, &cursor))) {
        handle->node->handles = NULL;
        slots_remove(&share->handles, handle->id);
        share_free_handle(handle);
    }
    nodes_clear(&share->tree.nodes);
}

void share_close(struct share *share)
{
    share_forget_all(share);
    slots_finish(&share->handles);
    owners_finish(&share->owners);
    tree_close(&share->tree);
    free(share);
}

bool share_writable(const struct share *share)
{
    return share->writable;
}

bool share_has_xattrs(const struct share *share)
{
    return share->xattrs;
}

void share_confine(void *arg)
{
    struct share *share = arg;

    confine_thread(share->tree.nodes.root->fd, share->writable);
}

/* Nodes. */

/* Replaces the host's owner and inode number by those that the guest is shown. */
static void share_map_attr(struct share *share, const struct node *node, struct statx *attr)
{
    owners_show(&share->owners, attr);
    attr->stx_ino = tree_ino(&share->tree, &node->identity, attr->stx_ino);
}

int share_lookup_at(struct share *share, struct node *parent, const char *name,
                    struct share_entry *ret)
{
    struct node *node;
    int error = tree_lookup(&share->tree, parent, name, &node, &ret->attr);

    if (error)
        return error;
    share_map_attr(share, node, &ret->attr);
    ret->node = node->id;
    return 0;
}

int share_lookup(struct share *share, uint64_t parent, const char *name, struct share_entry *ret)
{
    struct node *directory = share_find_node(share, parent);

    return directory ? share_lookup_at(share, directory, name, ret) : -ESTALE;
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
    int error = node ? tree_stat(&share->tree, node, ret) : -ESTALE;

    if (!error)
        share_map_attr(share, node, ret);
    return error;
}

int share_readlink(struct share *share, uint64_t id, char *target, size_t size)
{
    struct node *node = share_find_node(share, id);
    cleanup_close int fd = node ? tree_open_path(&share->tree, node, NULL) : -ESTALE;
    ssize_t length;

    if (fd < 0)
        return fd;
    if (!S_ISLNK(node->identity.type))
        return -EINVAL;
    length = readlinkat(fd, "", target, size);
    return length < 0 ? -errno : (int)length;
}

int share_statfs(struct share *share, uint64_t id, struct statfs *ret)
{
    struct node *node = share_find_node(share, id);
    cleanup_close int fd = node ? tree_open_path(&share->tree, node, NULL) : -ESTALE;

    if (fd < 0)
        return fd;
    return fstatfs(fd, ret) < 0 ? -errno : 0;
}

/* Handles. */

struct handle *share_find_handle(const struct share *share, uint64_t node, uint64_t id)
{
    struct handle *handle = slots_find(&share->handles, id);

    return handle && handle->node->id == node ? handle : NULL;
}

static void share_link_handle(struct handle *handle, struct node *node)
{
    handle->node = node;
    handle->next = node->handles;
    node->handles = handle;
}

int share_add_handle(struct share *share, struct node *node, int fd, uint32_t flags,
                     struct share_opened *ret)
{
    struct handle *handle = calloc(1, sizeof(*handle));

    if (!handle || !(handle->id = slots_add(&share->handles, handle))) {
        close(fd);
        free(handle);
        return -ENFILE;
    }
    handle->fd = fd;
    handle->flags = flags & HANDLE_FLAGS;
    share_link_handle(handle, node);
    ret->handle = handle->id;
    return 0;
}

int share_release(struct share *share, uint64_t node, uint64_t id)
{
    struct handle *handle = share_find_handle(share, node, id), **link;

    if (!handle)
        return -EBADF;
    for (link = &handle->node->handles; *link != handle;)
        link = &(*link)->next;
    *link = handle->next;
    nodes_release(&share->tree.nodes, handle->node);
    slots_remove(&share->handles, id);
    share_free_handle(handle);
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

int share_open_file(struct share *share, uint64_t id, uint32_t flags, struct share_opened *ret)
{
    struct node *node = share_find_node(share, id);
    cleanup_close int path_fd = -1;
    struct statx now;
    int fd;

    if (!node)
        return -ESTALE;
    if (!share->writable && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
        return -EROFS;
    /* Opening a device or pipe can have side effects on the host; the guest opens its own. */
    if (!S_ISREG(node->identity.type))
        return S_ISDIR(node->identity.type) ? -EISDIR : -ENXIO;
    path_fd = tree_open_path(&share->tree, node, &now);
    if (path_fd < 0)
        return path_fd;
    fd = tree_reopen(&share->tree, path_fd, (int)share_open_flags(flags));
    if (fd < 0)
        return fd;
    ret->unchanged = share_update_opened(node, &now) && !(flags & O_TRUNC);
    return share_add_handle(share, node, fd, flags, ret);
}

int share_open_directory(struct share *share, uint64_t id, struct share_opened *ret)
{
    struct node *node = share_find_node(share, id);
    int fd = node ? tree_directory_fd(&share->tree, node) : -ESTALE;

    if (fd < 0)
        return fd;
    fd = tree_reopen(&share->tree, fd, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    ret->unchanged = false;
    return share_add_handle(share, node, fd, 0, ret);
}

ssize_t share_read(struct share *share, uint64_t node, uint64_t id, const struct iovec *iov,
                   unsigned count, uint64_t offset)
{
    int fd = share_handle_fd(share_find_handle(share, node, id));
    ssize_t done;

    if (fd < 0)
        return fd;
    done = preadv(fd, iov, (int)count, (off_t)offset);
    return done < 0 ? -errno : done;
}

int64_t share_seek(struct share *share, uint64_t node, uint64_t id, uint64_t offset,
                   unsigned whence)
{
    int fd = share_handle_fd(share_find_handle(share, node, id));
    off_t position;

    if (fd < 0)
        return fd;
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    position = lseek(fd, (off_t)offset, (int)whence);
    return position < 0 ? -errno : position;
}

/* Emits a buffer of entries; *offset becomes that of the next. False: `emit` took no more. */
static bool share_emit_entries(struct share *share, const struct handle *handle, size_t size,
                               uint64_t *offset,
                               bool (*emit)(void *owner, const struct share_dirent *entry),
                               void *owner)
{
    for (size_t at = 0; at < size;) {
        const struct dirent64 *host = (const struct dirent64 *)(share->dirents + at);
        const struct share_dirent entry = {
            .name = host->d_name,
            .length = strlen(host->d_name),
            .ino = tree_ino(&share->tree, &handle->node->identity, host->d_ino),
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
    const struct handle *handle = share_find_handle(share, node, id);
    size_t most = sizeof(struct dirent64) + count * DIRENT_TYPICAL;
    int fd = share_handle_fd(handle);
    ssize_t size;

    if (fd < 0)
        return fd;
    if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    if (most > sizeof(share->dirents))
        most = sizeof(share->dirents);
    do {
        size = getdents64(fd, share->dirents, most);
    } while (size > 0 && share_emit_entries(share, handle, (size_t)size, &offset, emit, owner));
    return size < 0 ? -errno : 0;
}

/* State. */

/* Opens the file of a loaded handle, if it is still in its place. */
static int share_reopen(struct share *share, struct node *node, uint32_t flags)
{
    cleanup_close int path_fd = tree_open_path(&share->tree, node, NULL);

    if (path_fd < 0)
        return path_fd;
    if (S_ISDIR(node->identity.type))
        return tree_reopen(&share->tree, path_fd, O_RDONLY | O_DIRECTORY);
    return tree_reopen(&share->tree, path_fd, (int)(share_open_flags(flags) & ~(uint32_t)O_TRUNC));
}

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

    if (!handle) {
        state_fail(s, "out of memory");
        return NULL;
    }
    handle->fd = -ESTALE;
    share_handle_state(handle, &id, s);
    node = slots_find(&share->tree.nodes.slots, id); /* may be forgotten: nodes_find() would fail */
    if (!s->error && node && share_handle_allowed(share, node, handle->flags) &&
        slots_restore(&share->handles, handle->id, handle)) {
        share_link_handle(handle, node);
        return handle;
    }
    state_fail(s, "handle %#llx is not valid for node %#llx", (unsigned long long)handle->id,
               (unsigned long long)id);
    free(handle);
    return NULL;
}

static unsigned share_load_handles(struct share *share, uint32_t count, struct state *s)
{
    unsigned lost = 0;

    for (; count > 0; count--) {
        struct handle *handle = share_load_handle(share, s);
        int fd;

        if (!handle)
            return 0;
        fd = share_reopen(share, handle->node, handle->flags);
        if (fd >= 0)
            handle->fd = fd;
        else
            lost++;
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
        share_handle_state(handle, &handle->node->id, s);
    return 0;
}
