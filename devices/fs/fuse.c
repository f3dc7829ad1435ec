/* SPDX-License-Identifier: MIT */
#include "devices/fs/fuse.h"

#include <errno.h>
#include <limits.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "devices/fs/share.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"

/*
 * How long the guest may cache names and attributes, in seconds. The host may change the directory
 * at any time and the guest is not notified, so it may see a change this late; in return, walking a
 * tree repeatedly causes few requests. Contents may be cached for longer, because open() always
 * causes a request, whose reply says whether the guest's page cache is still valid.
 */
#define CACHE_VALID_S 1

#define MIN_MINOR      31         /* that of Linux 5.4, the first with virtio-fs */
#define MAX_WRITE      (1u << 20) /* bytes */
#define MAX_PAGES      248        /* and headers: within the segments that a virtqueue allows */
#define MAX_READ       (MAX_PAGES * 64 * KIB) /* of the largest pages that a guest can have */
#define MAX_BACKGROUND 64
#define NAMES_MAX      (NAME_MAX + 1 + PATH_MAX) /* of SYMLINK, the longest */

#define FEATURES                                                                      \
    (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_AUTO_INVAL_DATA | \
     FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES)

/*
 * With extended attributes. Clearing set-ID bits of files written to is left to the server, because
 * Linux would otherwise ask for "security.capability" before each write. Access control lists are
 * checked by the guest, and a default one replaces the umask, which the server therefore applies.
 */
#define XATTR_FEATURES (FUSE_HANDLE_KILLPRIV_V2 | FUSE_POSIX_ACL | FUSE_DONT_MASK)

struct fuse {
    struct share *share;
};

/* Room for parts of a request. Not in struct fuse_call, which is zeroed. */
struct fuse_scratch {
    char names[NAMES_MAX];
    struct iovec iov[FUSE_SEGMENTS_MAX];
};

/* A request being handled. */
struct fuse_call {
    struct share *share;
    struct fuse_scratch *scratch;
    struct fuse_in_header in;
    union {
        struct fuse_forget_in forget;
        struct fuse_batch_forget_in batch_forget;
        struct fuse_getattr_in getattr;
        struct fuse_setattr_in setattr;
        struct fuse_getxattr_in getxattr;
        struct fuse_setxattr_in setxattr;
        struct fuse_mknod_in mknod;
        struct fuse_mkdir_in mkdir;
        struct fuse_rename_in rename;
        struct fuse_rename2_in rename2;
        struct fuse_link_in link;
        struct fuse_open_in open;
        struct fuse_create_in create;
        struct fuse_release_in release;
        struct fuse_read_in read;
        struct fuse_write_in write;
        struct fuse_fsync_in fsync;
        struct fuse_fallocate_in fallocate;
        struct fuse_lseek_in lseek;
        struct fuse_init_in init;
    } args;
    const char *names[2];
    struct sg payload; /* rest of the request, after args and names */
    struct sg reply;   /* rest of the reply buffer */
    size_t reply_size; /* bytes of the reply, without its header */
};

/* Appends to the reply. Fixed sizes fit, because fuse_dispatch() checks reply_min. */
static int fuse_put(struct fuse_call *call, const void *bytes, size_t size)
{
    if (!sg_write(&call->reply, bytes, size))
        return -EINVAL;
    call->reply_size += size;
    return 0;
}

/* Fills scratch->iov with the first `size` bytes of `sg`. Returns the number of elements. */
static unsigned fuse_iov(struct fuse_call *call, struct sg sg, size_t size)
{
    struct iovec *iov = call->scratch->iov;
    unsigned count = 0;

    if (sg.length > size)
        sg.length = size;
    while (sg.length > 0 && count < FUSE_SEGMENTS_MAX) {
        iov[count] = sg_front(&sg);
        sg_skip(&sg, iov[count].iov_len);
        count++;
    }
    return count;
}

static struct share_user fuse_user(const struct fuse_call *call, uint32_t umask)
{
    return (struct share_user){ call->in.uid, call->in.gid, umask & 0777 };
}

/* The kernel's new_encode_dev(). */
static uint32_t fuse_rdev(uint32_t major, uint32_t minor)
{
    return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

static struct fuse_attr fuse_attr_of(const struct statx *attr)
{
    return (struct fuse_attr){
        .ino = attr->stx_ino,
        .size = attr->stx_size,
        .blocks = attr->stx_blocks,
        .atime = (uint64_t)attr->stx_atime.tv_sec,
        .mtime = (uint64_t)attr->stx_mtime.tv_sec,
        .ctime = (uint64_t)attr->stx_ctime.tv_sec,
        .atimensec = attr->stx_atime.tv_nsec,
        .mtimensec = attr->stx_mtime.tv_nsec,
        .ctimensec = attr->stx_ctime.tv_nsec,
        .mode = attr->stx_mode,
        .nlink = attr->stx_nlink,
        .uid = attr->stx_uid,
        .gid = attr->stx_gid,
        .rdev = fuse_rdev(attr->stx_rdev_major, attr->stx_rdev_minor),
        .blksize = attr->stx_blksize,
    };
}

static struct fuse_entry_out fuse_entry_of(const struct share_entry *entry)
{
    return (struct fuse_entry_out){
        .nodeid = entry->node,
        .entry_valid = entry->gone ? 0 : CACHE_VALID_S,
        .attr_valid = entry->gone ? 0 : CACHE_VALID_S,
        .attr = fuse_attr_of(&entry->attr),
    };
}

/* Replies with a file looked up or created, unless `error`. */
static int fuse_put_entry(struct fuse_call *call, int error, const struct share_entry *entry)
{
    struct fuse_entry_out out;

    if (error)
        return error;
    out = fuse_entry_of(entry);
    return fuse_put(call, &out, sizeof(out));
}

static int fuse_put_attr(struct fuse_call *call, int error, const struct statx *attr)
{
    struct fuse_attr_out out;

    if (error)
        return error;
    out = (struct fuse_attr_out){ .attr_valid = CACHE_VALID_S, .attr = fuse_attr_of(attr) };
    return fuse_put(call, &out, sizeof(out));
}

static int fuse_put_open(struct fuse_call *call, int error, const struct share_opened *opened)
{
    const struct fuse_open_out out = {
        .fh = error ? 0 : opened->handle,
        .open_flags = !error && opened->unchanged ? FOPEN_KEEP_CACHE : 0,
    };

    return error ? error : fuse_put(call, &out, sizeof(out));
}

/* The session. */

static int fuse_do_init(struct fuse_call *call)
{
    const struct fuse_init_in *in = &call->args.init;
    uint32_t features =
        FEATURES | (share_is_overlaid(call->share) ? 0 : XATTR_FEATURES | FUSE_CACHE_SYMLINKS);
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = in->max_readahead,
        .flags = in->flags & features,
        .max_background = MAX_BACKGROUND,
        .congestion_threshold = MAX_BACKGROUND * 3 / 4,
        .max_write = MAX_WRITE,
        .time_gran = 1,
        .max_pages = MAX_PAGES,
    };

    if (in->major < FUSE_KERNEL_VERSION ||
        (in->major == FUSE_KERNEL_VERSION && in->minor < MIN_MINOR))
        return -EPROTO;
    share_forget_all(call->share);
    return fuse_put(call, &out, sizeof(out));
}

static int fuse_do_destroy(struct fuse_call *call)
{
    share_forget_all(call->share);
    return 0;
}

static int fuse_do_statfs(struct fuse_call *call)
{
    struct statfs fs;
    struct fuse_statfs_out out;
    int error = share_statfs(call->share, call->in.nodeid, &fs);

    if (error)
        return error;
    out = (struct fuse_statfs_out){ .st = {
                                        .blocks = fs.f_blocks,
                                        .bfree = fs.f_bfree,
                                        .bavail = fs.f_bavail,
                                        .files = fs.f_files,
                                        .ffree = fs.f_ffree,
                                        .bsize = (uint32_t)fs.f_bsize,
                                        .namelen = (uint32_t)fs.f_namelen,
                                        .frsize = (uint32_t)fs.f_frsize,
                                    } };
    return fuse_put(call, &out, sizeof(out));
}

/* Nodes. */

static int fuse_do_lookup(struct fuse_call *call)
{
    struct share_entry entry = { 0 };
    int error = share_lookup(call->share, call->in.nodeid, call->names[0], &entry);

    /* Node 0 is a negative entry, which the guest may cache. */
    return fuse_put_entry(call, error == -ENOENT ? 0 : error, &entry);
}

static int fuse_do_forget(struct fuse_call *call)
{
    share_forget(call->share, call->in.nodeid, call->args.forget.nlookup);
    return 0;
}

static int fuse_do_batch_forget(struct fuse_call *call)
{
    struct fuse_forget_one one;

    for (uint32_t left = call->args.batch_forget.count;
         left > 0 && sg_read(&call->payload, &one, sizeof(one)); left--)
        share_forget(call->share, one.nodeid, one.nlookup);
    return 0;
}

static int fuse_do_getattr(struct fuse_call *call)
{
    struct statx attr;
    int error = share_getattr(call->share, call->in.nodeid, &attr);

    return fuse_put_attr(call, error, &attr);
}

static int fuse_do_setattr(struct fuse_call *call)
{
    const struct fuse_setattr_in *in = &call->args.setattr;
    const struct share_change change = {
        .set_mode = in->valid & FATTR_MODE,
        .set_uid = in->valid & FATTR_UID,
        .set_gid = in->valid & FATTR_GID,
        .set_size = in->valid & FATTR_SIZE,
        .set_atime = in->valid & FATTR_ATIME,
        .set_mtime = in->valid & FATTR_MTIME,
        .mode = in->mode,
        .uid = in->uid,
        .gid = in->gid,
        .size = in->size,
        .by_user = in->valid & FATTR_KILL_SUIDGID,
        .by_handle = in->valid & FATTR_FH,
        .handle = in->fh,
        .atime = { (time_t)in->atime, in->valid & FATTR_ATIME_NOW ? UTIME_NOW : in->atimensec },
        .mtime = { (time_t)in->mtime, in->valid & FATTR_MTIME_NOW ? UTIME_NOW : in->mtimensec },
    };
    struct statx attr;
    int error = share_setattr(call->share, call->in.nodeid, &change, &attr);

    return fuse_put_attr(call, error, &attr);
}

static int fuse_do_readlink(struct fuse_call *call)
{
    char target[PATH_MAX];
    int length = share_readlink(call->share, call->in.nodeid, target, sizeof(target));

    return length < 0 ? length : fuse_put(call, target, (size_t)length);
}

/* Extended attributes. ENOSYS is remembered by the guest's kernel, which then never asks again. */

/* The reply to a request for at most `size` bytes of a value of `length`; 0: for its length. */
static int fuse_put_xattr(struct fuse_call *call, const void *value, int length, uint32_t size)
{
    const struct fuse_getxattr_out out = { .size = (uint32_t)length };

    if (length < 0)
        return length;
    if (size == 0)
        return fuse_put(call, &out, sizeof(out));
    if ((uint32_t)length > size || (size_t)length > call->reply.length)
        return -ERANGE;
    return fuse_put(call, value, (size_t)length);
}

static int fuse_do_getxattr(struct fuse_call *call)
{
    uint32_t size = call->args.getxattr.size;
    size_t room = size < SHARE_XATTR_MAX ? size : SHARE_XATTR_MAX;
    cleanup_free char *value = NULL;
    int length;

    if (share_is_overlaid(call->share))
        return -ENOSYS;
    if (room > 0 && !(value = malloc(room)))
        return -ENOMEM;
    length = share_getxattr(call->share, call->in.nodeid, call->names[0], value, room);
    return fuse_put_xattr(call, value, length, size);
}

static int fuse_do_listxattr(struct fuse_call *call)
{
    cleanup_free char *list = NULL;

    if (share_is_overlaid(call->share))
        return -ENOSYS;
    list = malloc(SHARE_XATTR_MAX);
    if (!list)
        return -ENOMEM;
    return fuse_put_xattr(call, list, share_listxattr(call->share, call->in.nodeid, list),
                          call->args.getxattr.size);
}

/* The name is followed by the value. */
static int fuse_do_setxattr(struct fuse_call *call)
{
    const struct fuse_setxattr_in *in = &call->args.setxattr;
    size_t left = call->payload.length, length;
    cleanup_free char *text = NULL;

    if (share_is_overlaid(call->share))
        return -ENOSYS;
    if (left > XATTR_NAME_MAX + 1 + SHARE_XATTR_MAX)
        return -E2BIG;
    text = malloc(left + 1);
    if (!text)
        return -ENOMEM;
    sg_read(&call->payload, text, left);
    length = strnlen(text, left);
    if (length == left || left - length - 1 != in->size)
        return -EINVAL;
    return share_setxattr(call->share, call->in.nodeid, text, text + length + 1, in->size,
                          in->flags);
}

static int fuse_do_removexattr(struct fuse_call *call)
{
    if (share_is_overlaid(call->share))
        return -ENOSYS;
    return share_removexattr(call->share, call->in.nodeid, call->names[0]);
}

/* Names. */

static int fuse_do_mknod(struct fuse_call *call)
{
    struct share_entry entry;
    int error = share_mknod(call->share, call->in.nodeid, call->names[0], call->args.mknod.mode,
                            fuse_user(call, call->args.mknod.umask), &entry);

    return fuse_put_entry(call, error, &entry);
}

static int fuse_do_mkdir(struct fuse_call *call)
{
    struct share_entry entry;
    int error = share_mkdir(call->share, call->in.nodeid, call->names[0], call->args.mkdir.mode,
                            fuse_user(call, call->args.mkdir.umask), &entry);

    return fuse_put_entry(call, error, &entry);
}

static int fuse_do_symlink(struct fuse_call *call)
{
    struct share_entry entry;
    int error = share_symlink(call->share, call->in.nodeid, call->names[0], call->names[1],
                              fuse_user(call, 0), &entry);

    return fuse_put_entry(call, error, &entry);
}

static int fuse_do_link(struct fuse_call *call)
{
    struct share_entry entry;
    int error =
        share_link(call->share, call->args.link.oldnodeid, call->in.nodeid, call->names[0], &entry);

    return fuse_put_entry(call, error, &entry);
}

static int fuse_do_unlink(struct fuse_call *call)
{
    return share_unlink(call->share, call->in.nodeid, call->names[0],
                        call->in.opcode == FUSE_RMDIR);
}

static int fuse_do_rename(struct fuse_call *call)
{
    return share_rename(call->share, call->in.nodeid, call->names[0], call->args.rename.newdir,
                        call->names[1], 0);
}

static int fuse_do_rename2(struct fuse_call *call)
{
    return share_rename(call->share, call->in.nodeid, call->names[0], call->args.rename2.newdir,
                        call->names[1], call->args.rename2.flags);
}

/* Handles. */

static int fuse_do_open(struct fuse_call *call)
{
    struct share_opened opened;
    int error = share_open_file(call->share, call->in.nodeid, call->args.open.flags, &opened);

    if (!error && call->args.open.open_flags & FUSE_OPEN_KILL_SUIDGID)
        share_written_by_user(call->share, call->in.nodeid, opened.handle);
    return fuse_put_open(call, error, &opened);
}

static int fuse_do_create(struct fuse_call *call)
{
    const struct fuse_create_in *in = &call->args.create;
    struct share_entry entry;
    struct share_opened opened;
    int error = share_create(call->share, call->in.nodeid, call->names[0], in->flags, in->mode,
                             fuse_user(call, in->umask), &entry, &opened);

    if (!error && in->open_flags & FUSE_OPEN_KILL_SUIDGID)
        share_written_by_user(call->share, entry.node, opened.handle);

    error = fuse_put_entry(call, error, &entry);
    return fuse_put_open(call, error, &opened);
}

static int fuse_do_opendir(struct fuse_call *call)
{
    struct share_opened opened;
    int error = share_open_directory(call->share, call->in.nodeid, &opened);

    return fuse_put_open(call, error, &opened);
}

static int fuse_do_release(struct fuse_call *call)
{
    return share_release(call->share, call->in.nodeid, call->args.release.fh);
}

static int fuse_do_read(struct fuse_call *call)
{
    const struct fuse_read_in *in = &call->args.read;
    unsigned count;
    ssize_t done;

    if (in->size > MAX_READ)
        return -EINVAL;
    count = fuse_iov(call, call->reply, in->size);
    done = share_read(call->share, call->in.nodeid, in->fh, call->scratch->iov, count, in->offset);
    if (done < 0)
        return (int)done;
    call->reply_size = (size_t)done;
    return 0;
}

static int fuse_do_write(struct fuse_call *call)
{
    const struct fuse_write_in *in = &call->args.write;
    struct fuse_write_out out = { 0 };
    unsigned count;
    ssize_t done;

    if (in->size > call->payload.length || in->size > MAX_WRITE)
        return -EINVAL;
    count = fuse_iov(call, call->payload, in->size);
    done = share_write(call->share, call->in.nodeid, in->fh, call->scratch->iov, count, in->offset,
                       in->write_flags & FUSE_WRITE_CACHE);
    if (done < 0)
        return (int)done;
    if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
        share_written_by_user(call->share, call->in.nodeid, in->fh);
    out.size = (uint32_t)done;
    return fuse_put(call, &out, sizeof(out));
}

static int fuse_do_fsync(struct fuse_call *call)
{
    return share_fsync(call->share, call->in.nodeid, call->args.fsync.fh,
                       call->args.fsync.fsync_flags & FUSE_FSYNC_FDATASYNC);
}

static int fuse_do_fallocate(struct fuse_call *call)
{
    const struct fuse_fallocate_in *in = &call->args.fallocate;

    return share_fallocate(call->share, call->in.nodeid, in->fh, in->offset, in->length, in->mode);
}

static int fuse_do_lseek(struct fuse_call *call)
{
    const struct fuse_lseek_in *in = &call->args.lseek;
    int64_t position = share_seek(call->share, call->in.nodeid, in->fh, in->offset, in->whence);
    const struct fuse_lseek_out out = { .offset = (uint64_t)position };

    return position < 0 ? (int)position : fuse_put(call, &out, sizeof(out));
}

/* Directories. */

struct fuse_listing {
    struct fuse_call *call;
    size_t left; /* bytes that may still be added */
    bool plus;   /* READDIRPLUS: each entry is a lookup, too */
    bool full;
};

/* Entries without a lookup (".", "..", and errors) have node 0 and no attributes. */
static int fuse_put_dirent_entry(struct fuse_call *call, const struct share_dirent *dirent)
{
    struct share_entry entry = { 0 };
    struct fuse_entry_out out = { 0 };
    bool dots = !strcmp(dirent->name, ".") || !strcmp(dirent->name, "..");

    if (!dots && !share_lookup_entry(call->share, call->in.nodeid, dirent->name, &entry))
        out = fuse_entry_of(&entry);
    return fuse_put(call, &out, sizeof(out));
}

static bool fuse_put_dirent(void *owner, const struct share_dirent *dirent)
{
    static const char padding[FUSE_DIRENT_ALIGN(1)];
    struct fuse_listing *listing = owner;
    struct fuse_call *call = listing->call;
    const struct fuse_dirent out = {
        .ino = dirent->ino,
        .off = dirent->next,
        .namelen = (uint32_t)dirent->length,
        .type = dirent->type,
    };
    size_t head = listing->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    size_t size = FUSE_DIRENT_ALIGN(head + dirent->length);

    listing->full = size > listing->left;
    if (listing->full)
        return false;
    listing->left -= size;
    if (listing->plus)
        fuse_put_dirent_entry(call, dirent);
    fuse_put(call, &out, FUSE_NAME_OFFSET);
    fuse_put(call, dirent->name, dirent->length);
    fuse_put(call, padding, size - head - dirent->length);
    return true;
}

static int fuse_do_readdir(struct fuse_call *call)
{
    const struct fuse_read_in *in = &call->args.read;
    size_t size = in->size < MAX_READ ? in->size : MAX_READ;
    struct fuse_listing listing = {
        .call = call,
        .left = size < call->reply.length ? size : call->reply.length,
        .plus = call->in.opcode == FUSE_READDIRPLUS,
    };
    size_t count = listing.left / (listing.plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET);
    int error = share_read_directory(call->share, call->in.nodeid, in->fh, in->offset, count,
                                     fuse_put_dirent, &listing);

    if (call->reply_size > 0)
        return 0;
    return error ? error : listing.full ? -EINVAL : 0;
}

/* Other operations get ENOSYS: the guest's kernel does without them. */
static const struct fuse_op {
    int (*handle)(struct fuse_call *call);
    size_t args_size;  /* bytes of the request before its names */
    size_t name_count; /* NUL-terminated strings in the request */
    size_t reply_min;  /* bytes of reply buffer that are required */
    bool writes;       /* refused if the share is read-only */
    bool no_reply;     /* not even on error */
} fuse_ops[] = {
    [FUSE_INIT] = { fuse_do_init, offsetof(struct fuse_init_in, flags2), 0,
                    sizeof(struct fuse_init_out) },
    [FUSE_DESTROY] = { fuse_do_destroy },
    [FUSE_STATFS] = { fuse_do_statfs, 0, 0, sizeof(struct fuse_statfs_out) },

    [FUSE_LOOKUP] = { fuse_do_lookup, 0, 1, sizeof(struct fuse_entry_out) },
    [FUSE_FORGET] = { fuse_do_forget, sizeof(struct fuse_forget_in), .no_reply = true },
    [FUSE_BATCH_FORGET] = { fuse_do_batch_forget, sizeof(struct fuse_batch_forget_in),
                            .no_reply = true },
    [FUSE_GETATTR] = { fuse_do_getattr, 0, 0, sizeof(struct fuse_attr_out) },
    [FUSE_READLINK] = { fuse_do_readlink },
    [FUSE_SETATTR] = { fuse_do_setattr, sizeof(struct fuse_setattr_in), 0,
                       sizeof(struct fuse_attr_out), .writes = true },

    [FUSE_GETXATTR] = { fuse_do_getxattr, sizeof(struct fuse_getxattr_in), 1 },
    [FUSE_LISTXATTR] = { fuse_do_listxattr, sizeof(struct fuse_getxattr_in) },
    [FUSE_SETXATTR] = { fuse_do_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, .writes = true },
    [FUSE_REMOVEXATTR] = { fuse_do_removexattr, 0, 1, 0, .writes = true },

    [FUSE_MKNOD] = { fuse_do_mknod, sizeof(struct fuse_mknod_in), 1, sizeof(struct fuse_entry_out),
                     .writes = true },
    [FUSE_MKDIR] = { fuse_do_mkdir, sizeof(struct fuse_mkdir_in), 1, sizeof(struct fuse_entry_out),
                     .writes = true },
    [FUSE_SYMLINK] = { fuse_do_symlink, 0, 2, sizeof(struct fuse_entry_out), .writes = true },
    [FUSE_LINK] = { fuse_do_link, sizeof(struct fuse_link_in), 1, sizeof(struct fuse_entry_out),
                    .writes = true },
    [FUSE_UNLINK] = { fuse_do_unlink, 0, 1, 0, .writes = true },
    [FUSE_RMDIR] = { fuse_do_unlink, 0, 1, 0, .writes = true },
    [FUSE_RENAME] = { fuse_do_rename, sizeof(struct fuse_rename_in), 2, 0, .writes = true },
    [FUSE_RENAME2] = { fuse_do_rename2, sizeof(struct fuse_rename2_in), 2, 0, .writes = true },

    [FUSE_OPEN] = { fuse_do_open, sizeof(struct fuse_open_in), 0, sizeof(struct fuse_open_out) },
    [FUSE_CREATE] = { fuse_do_create, sizeof(struct fuse_create_in), 1,
                      sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out),
                      .writes = true },
    [FUSE_RELEASE] = { fuse_do_release, sizeof(struct fuse_release_in) },
    [FUSE_READ] = { fuse_do_read, sizeof(struct fuse_read_in) },
    [FUSE_WRITE] = { fuse_do_write, sizeof(struct fuse_write_in), 0, sizeof(struct fuse_write_out),
                     .writes = true },
    [FUSE_FSYNC] = { fuse_do_fsync, sizeof(struct fuse_fsync_in) },
    [FUSE_FALLOCATE] = { fuse_do_fallocate, sizeof(struct fuse_fallocate_in), .writes = true },
    [FUSE_LSEEK] = { fuse_do_lseek, sizeof(struct fuse_lseek_in), 0,
                     sizeof(struct fuse_lseek_out) },

    [FUSE_OPENDIR] = { fuse_do_opendir, sizeof(struct fuse_open_in), 0,
                       sizeof(struct fuse_open_out) },
    [FUSE_READDIR] = { fuse_do_readdir, sizeof(struct fuse_read_in) },
    [FUSE_READDIRPLUS] = { fuse_do_readdir, sizeof(struct fuse_read_in) },
    [FUSE_RELEASEDIR] = { fuse_do_release, sizeof(struct fuse_release_in) },
    [FUSE_FSYNCDIR] = { fuse_do_fsync, sizeof(struct fuse_fsync_in) },
};

static const struct fuse_op *fuse_op_of(uint32_t opcode)
{
    return opcode < ARRAY_SIZE(fuse_ops) && fuse_ops[opcode].handle ? &fuse_ops[opcode] : NULL;
}

/* Reads `count` NUL-terminated strings, which must fill the rest of the request exactly. */
static int fuse_read_names(struct fuse_call *call, size_t count)
{
    char *text = call->scratch->names;
    size_t left = call->payload.length;

    if (left > sizeof(call->scratch->names))
        return -ENAMETOOLONG;
    sg_read(&call->payload, text, left);
    for (size_t i = 0; i < count; i++) {
        size_t length = strnlen(text, left);

        if (length == left)
            return -EINVAL;
        call->names[i] = text;
        text += length + 1;
        left -= length + 1;
    }
    return left ? -EINVAL : 0;
}

static int fuse_dispatch(struct fuse_call *call, const struct fuse_op *op, size_t size)
{
    int error = 0;

    if (!op)
        return -ENOSYS;
    if (op->writes && !share_writable(call->share))
        return -EROFS;
    if (call->in.len != size || call->reply.length < op->reply_min ||
        !sg_read(&call->payload, &call->args, op->args_size))
        return -EINVAL;
    if (op->name_count)
        error = fuse_read_names(call, op->name_count);
    return error ? error : op->handle(call);
}

uint32_t fuse_serve(struct fuse *fuse, struct sg *request, struct sg *reply)
{
    UNINITIALIZED struct fuse_scratch scratch;
    struct fuse_call call = { .share = fuse->share, .scratch = &scratch };
    size_t size = request->length;
    struct fuse_out_header out;
    const struct fuse_op *op;
    int error;

    if (!sg_read(request, &call.in, sizeof(call.in)))
        return 0;
    op = fuse_op_of(call.in.opcode);
    call.payload = *request;
    call.reply = *reply;
    if (!sg_skip(&call.reply, sizeof(out)) && !(op && op->no_reply))
        return 0;
    error = fuse_dispatch(&call, op, size);
    if (op && op->no_reply)
        return 0;
    out = (struct fuse_out_header){
        .len = (uint32_t)(sizeof(out) + (error ? 0 : call.reply_size)),
        .error = error,
        .unique = call.in.unique,
    };
    sg_write(reply, &out, sizeof(out));
    return out.len;
}

bool fuse_target(const struct fuse *fuse, const struct sg *request, struct fuse_target *ret)
{
    struct sg rest = *request;
    struct fuse_in_header in;
    char name[NAME_MAX + 1];
    size_t length;

    if (!sg_read(&rest, &in, sizeof(in)))
        return false;
    *ret =
        (struct fuse_target){ .node = in.nodeid, .device = share_device(fuse->share, in.nodeid) };
    if (in.opcode != FUSE_LOOKUP)
        return in.opcode != FUSE_FORGET && in.opcode != FUSE_BATCH_FORGET;
    length = rest.length < sizeof(name) ? rest.length : sizeof(name);
    sg_read(&rest, name, length);
    ret->name_hash = hash_bytes(0, name, length);
    ret->lookup = true;
    return true;
}

void fuse_reset(struct fuse *fuse)
{
    share_forget_all(fuse->share);
}

unsigned fuse_state(struct fuse *fuse, struct state *s)
{
    return share_state(fuse->share, s);
}

struct fuse *fuse_create(struct share *share)
{
    struct fuse *fuse = calloc(1, sizeof(*fuse));

    if (fuse)
        fuse->share = share;
    return fuse;
}

void fuse_destroy(struct fuse *fuse)
{
    free(fuse);
}
