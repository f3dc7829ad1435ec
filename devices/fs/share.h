/* SPDX-License-Identifier: MIT */
#ifndef DEVICES_FS_SHARE_H
#define DEVICES_FS_SHARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

/*
 * A directory of the host as a guest uses it: files by node and handle, both of them numbers the
 * guest may make up. On one thread. What is called returns 0 or more, or -errno, which is for the
 * guest; it prints nothing. How many nodes and handles a guest may have is limited (-ENFILE).
 *
 * Users and groups are those of the host, unchanged. What the guest may do to a file is what the
 * process's user may. New files belong to that user; if it is root, to whom the guest says.
 */
struct share;
struct state;
struct statfs;

/*
 * How many descriptors a guest may hold open through each of `shares`, which are all the process
 * has: together half of those it may have, of which it takes up to 8192 unless the host objects.
 */
unsigned share_descriptors(unsigned shares);

struct share_options {
    const char *path; /* of a directory */
    bool writable;    /* else the guest may only read, whatever it does */
};

/* Prints what is wrong, SHARE_DESCRIPTORS_MIN > `descriptors` included; -errno. */
#define SHARE_DESCRIPTORS_MIN 16u
int share_open(struct share **ret, const struct share_options *options, unsigned descriptors);
void share_close(struct share *share);

bool share_writable(const struct share *share);

/*
 * On the thread that is to serve, before its first request: gives up what else the thread could do
 * (confine.h). Takes a struct share, as loop_call() would have it.
 */
void share_confine(void *share);

/* The guest is gone, or begins anew: no nodes but the root, which is 1, and no handles. */
void share_forget_all(struct share *share);

/*
 * Saves it, or loads it into a share just opened, of a directory that may have changed: a node is
 * checked when it is used, and a handle's file is opened again, here. On any thread while none
 * serves: the one that does may be confined already, and what is opened is beneath the root as
 * ever. Returns how many handles have lost their files and answer -ESTALE. After an error the share
 * is only good to be closed.
 */
unsigned share_state(struct share *share, struct state *s);

/* What a guest learns of a file it looks up or makes. */
struct share_entry {
    uint64_t node; /* one lookup more to forget */
    struct statx attr;
};

/* Who asks: the owner of what is made, if we may say so. */
struct share_user {
    uint32_t uid, gid;
};

int share_lookup(struct share *share, uint64_t parent, const char *name, struct share_entry *ret);
void share_forget(struct share *share, uint64_t node, uint64_t count);
int share_getattr(struct share *share, uint64_t node, struct statx *ret);
int share_readlink(struct share *share, uint64_t node, char *target, size_t size); /* length */
int share_statfs(struct share *share, uint64_t node, struct statfs *ret);

struct share_opened {
    uint64_t handle;
    bool unchanged; /* since it was last opened: what the guest still has of it is good */
};

/* `flags` as of open(); what may not be is left out or refused. */
int share_open_file(struct share *share, uint64_t node, uint32_t flags, struct share_opened *ret);
int share_open_directory(struct share *share, uint64_t node, struct share_opened *ret);
int share_release(struct share *share, uint64_t node, uint64_t handle);

/* Straight to and from the pieces. */
ssize_t share_read(struct share *share, uint64_t node, uint64_t handle, const struct iovec *iov,
                   unsigned count, uint64_t offset);
ssize_t share_write(struct share *share, uint64_t node, uint64_t handle, const struct iovec *iov,
                    unsigned count, uint64_t offset, bool from_cache);
int64_t share_seek(struct share *share, uint64_t node, uint64_t handle, uint64_t offset,
                   unsigned whence); /* SEEK_DATA and SEEK_HOLE */

struct share_dirent {
    const char *name;
    size_t length;
    uint64_t ino;
    uint64_t next; /* the offset behind it */
    unsigned type; /* DT_* */
};

/*
 * Shows the entries from `offset` on until `emit`, which may look them up, says that it has no room
 * for the one it is given. The host is asked for about `count` at a time.
 */
int share_read_directory(struct share *share, uint64_t node, uint64_t handle, uint64_t offset,
                         size_t count, bool (*emit)(void *owner, const struct share_dirent *entry),
                         void *owner);

/*
 * What changes files, in share_write.c. Not for a share that is not writable: the caller has seen
 * to that, for all of them at one place.
 */
struct share_change {
    bool set_mode, set_uid, set_gid, set_size, set_atime, set_mtime;
    mode_t mode;
    uint32_t uid, gid;
    uint64_t size;
    bool by_handle; /* size: of a file that may not be opened for writing again */
    uint64_t handle;
    struct timespec atime, mtime; /* UTIME_NOW is one */
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
int share_fallocate(struct share *share, uint64_t node, uint64_t handle, uint64_t offset,
                    uint64_t length, uint32_t mode);
int share_fsync(struct share *share, uint64_t node, uint64_t handle, bool data_only);

#endif
