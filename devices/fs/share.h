/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SHARE_H
#define DEVICES_FS_SHARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "vmm/core/landlock.h"

/*
 * A host directory shared with the guest, which names files by node id and handle id. Both may be
 * forged. Except where noted, functions return -errno for the guest on error, log nothing, and are
 * called on the share's loop. While the host lets them wait they release the loop, so that it can
 * serve other requests. The number of nodes and handles is limited (-ENFILE).
 *
 * The guest has the access rights of the process's user. Owners are shown as owner.h says.
 */
struct loop;
struct share;
struct share_budget;
struct state;
struct statfs;

struct share_options {
    const char *path; /* of a directory */
    bool writable;    /* false: read-only for the guest */
    bool guarded;     /* the guest leaves nothing there that misleads the host: see guard.h */
    bool overlaid;    /* the guest puts an overlay on it; see absent.h. Not if it is writable */
    int names_fd;     /* if overlaid: tells that the guest must drop cached names; -1: none */
    unsigned guest_uid, guest_gid; /* who has the files of the process's user, unless it is root */
};

/*
 * Opens the directory. 0 or -errno, logged. `budget` and `loop` must outlive the share. If it is
 * writable, the process's umask becomes 0, as modes of new files come from the guest: create other
 * files before.
 */
int share_open(struct share **ret, const struct share_options *options, struct share_budget *budget,
               struct loop *loop);
void share_close(struct share *share);

bool share_writable(const struct share *share);

/*
 * Below an overlay links may change under the same node, and there are no extended attributes: the
 * overlay would ask for one at each lookup.
 */
bool share_is_overlaid(const struct share *share);

/*
 * confine_thread() for this share. Called on the serving thread, before its first request, as a
 * callback of loop_call(): the argument is a struct share.
 */
void share_confine(void *share);

/* The directory that it serves, open as long as the share is. */
struct landlock_tree share_tree(const struct share *share);

/* Closes all handles and forgets all nodes but the root, whose id is 1. */
void share_forget_all(struct share *share);

/*
 * Saves the share, or loads it into one just opened, whose directory may have changed meanwhile.
 * Nodes are checked when they are used; the files of handles are reopened by the load. Returns the
 * number of handles whose file is lost: using these fails with -ESTALE.
 *
 * Called on any thread while no request is served; the serving threads may be confined already.
 * After an error in `s` the share may only be closed.
 */
unsigned share_state(struct share *share, struct state *s);

/* A file looked up or created. */
struct share_entry {
    uint64_t node; /* its lookup count was incremented */
    bool gone;     /* the file is no longer there: the guest must not rely on it */
    struct statx attr;
};

/* The guest's user who creates a file. */
struct share_user {
    uint32_t uid, gid;
    mode_t umask; /* applies unless the directory has a default access control list */
};

int share_lookup(struct share *share, uint64_t parent, const char *name, struct share_entry *ret);

/* The same for an entry of a listing. -EAGAIN: it is a mount point, which might keep us waiting. */
int share_lookup_entry(struct share *share, uint64_t parent, const char *name,
                       struct share_entry *ret);
void share_forget(struct share *share, uint64_t node, uint64_t count);
int share_getattr(struct share *share, uint64_t node, struct statx *ret);

/* Returns the target's length; it is not terminated. */
int share_readlink(struct share *share, uint64_t node, char *target, size_t size);

int share_statfs(struct share *share, uint64_t node, struct statfs *ret);

/* The host's number of the device that the node is on; 0: there is no such node. */
uint64_t share_device(const struct share *share, uint64_t node);

struct share_opened {
    uint64_t handle;
    bool unchanged; /* since it was last opened: the guest may keep its page cache */
};

/* `flags` of open(): those that a guest may not set are ignored or refused. */
int share_open_file(struct share *share, uint64_t node, uint32_t flags, struct share_opened *ret);
int share_open_directory(struct share *share, uint64_t node, struct share_opened *ret);
int share_release(struct share *share, uint64_t node, uint64_t handle);

/* Transfer between the file and `iov`, and return the bytes, possibly fewer than requested. */
ssize_t share_read(struct share *share, uint64_t node, uint64_t handle, const struct iovec *iov,
                   unsigned count, uint64_t offset);
ssize_t share_write(struct share *share, uint64_t node, uint64_t handle, const struct iovec *iov,
                    unsigned count, uint64_t offset, bool from_cache);

/* Returns the new offset. */
int64_t share_seek(struct share *share, uint64_t node, uint64_t handle, uint64_t offset,
                   unsigned whence); /* SEEK_DATA or SEEK_HOLE */

struct share_dirent {
    const char *name;
    size_t length;
    uint64_t ino;
    uint64_t next; /* offset of the next entry */
    unsigned type; /* DT_* */
};

/*
 * Calls `emit` for each entry from `offset` on, until it returns false, which means that it did not
 * take the entry. `emit` may look entries up. `count` is about how many are read at a time.
 */
int share_read_directory(struct share *share, uint64_t node, uint64_t handle, uint64_t offset,
                         size_t count, bool (*emit)(void *owner, const struct share_dirent *entry),
                         void *owner);

/* Functions that change files, in share_write.c. The caller checks share_writable() first. */

struct share_change {
    bool set_mode, set_uid, set_gid, set_size, set_atime, set_mtime;
    mode_t mode;
    uint32_t uid, gid;
    uint64_t size;
    bool by_user;   /* clear set-ID bits if the size is set */
    bool by_handle; /* set the size through `handle`: its file may have no write permission */
    uint64_t handle;
    struct timespec atime, mtime; /* tv_nsec may be UTIME_NOW */
};

int share_setattr(struct share *share, uint64_t node, const struct share_change *change,
                  struct statx *ret);
int share_create(struct share *share, uint64_t parent, const char *name, uint32_t flags,
                 mode_t mode, struct share_user user, struct share_entry *ret,
                 struct share_opened *ret_opened);
int share_mknod(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret);
int share_mkdir(struct share *share, uint64_t parent, const char *name, mode_t mode,
                struct share_user user, struct share_entry *ret);
int share_symlink(struct share *share, uint64_t parent, const char *name, const char *target,
                  struct share_user user, struct share_entry *ret);
int share_link(struct share *share, uint64_t node, uint64_t parent, const char *name,
               struct share_entry *ret);
int share_unlink(struct share *share, uint64_t parent, const char *name, bool directory);
int share_rename(struct share *share, uint64_t parent, const char *name, uint64_t new_parent,
                 const char *new_name, uint32_t flags);

/* After an ordinary user of the guest wrote to or truncated the file: clears its set-ID bits. */
void share_written_by_user(struct share *share, uint64_t node, uint64_t handle);

int share_fallocate(struct share *share, uint64_t node, uint64_t handle, uint64_t offset,
                    uint64_t length, uint32_t mode);
int share_fsync(struct share *share, uint64_t node, uint64_t handle, bool data_only);

/*
 * Extended attributes, in xattr.c. They return lengths; a buffer of size 0 asks for the length.
 * `value` of share_setxattr() is changed.
 */
#define SHARE_XATTR_MAX 65536u /* bytes of a value, or of a list of names */

int share_getxattr(struct share *share, uint64_t node, const char *name, void *value, size_t size);
int share_setxattr(struct share *share, uint64_t node, const char *name, void *value, size_t size,
                   uint32_t flags);
int share_removexattr(struct share *share, uint64_t node, const char *name);
int share_listxattr(struct share *share, uint64_t node, char list[SHARE_XATTR_MAX]);

#endif
