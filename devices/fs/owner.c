/* SPDX-License-Identifier: MIT */
#include "devices/fs/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/fs/node.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/log.h"
#include "vmm/core/state.h"

#define FIRST_CAPACITY 64u
#define NONE           UINT32_MAX
#define SET_ID         (S_ISUID | S_ISGID)

/* What the guest is shown of a file instead of what the host says. */
struct owner {
    /* The file. */
    uint64_t ino, born;
    uint32_t dev_major, dev_minor;

    uint32_t uid, gid; /* OWNER_KEEP: the host's */
    uint32_t set_id;   /* bits of the mode that are set besides the host's */
    uint32_t next;     /* in the same bucket; NONE: the last */
};

static int owner_stat(int fd, const char *name, struct statx *ret)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);

    return statx(fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, ret) < 0 ? -errno : 0;
}

static struct owner owner_of(const struct statx *attr)
{
    return (struct owner){
        .ino = attr->stx_ino,
        .born = attr->stx_mask & STATX_BTIME
                    ? (uint64_t)attr->stx_btime.tv_sec * 1000000000u + attr->stx_btime.tv_nsec
                    : 0,
        .dev_major = attr->stx_dev_major,
        .dev_minor = attr->stx_dev_minor,
        .uid = OWNER_KEEP,
        .gid = OWNER_KEEP,
    };
}

static bool owner_same_file(const struct owner *a, const struct owner *b)
{
    return a->ino == b->ino && a->born == b->born && a->dev_major == b->dev_major &&
           a->dev_minor == b->dev_minor;
}

static bool owner_says_nothing(const struct owner *owner)
{
    return owner->uid == OWNER_KEEP && owner->gid == OWNER_KEEP && !owner->set_id;
}

/* The table. */

static uint32_t *owners_bucket(const struct owners *o, const struct owner *file)
{
    uint64_t mixed =
        (file->ino ^ file->born ^ (uint64_t)file->dev_minor << 40) * 0x9e3779b97f4a7c15u;

    return &o->buckets[mixed >> 32 & (o->capacity - 1)];
}

/* The link to the file's entry, or the one to which it can be added. */
static uint32_t *owners_link(const struct owners *o, const struct owner *file)
{
    uint32_t *link = owners_bucket(o, file);

    while (*link != NONE && !owner_same_file(&o->table[*link], file))
        link = &o->table[*link].next;
    return link;
}

static struct owner *owners_find(const struct owners *o, const struct owner *file)
{
    uint32_t index = o->count ? *owners_link(o, file) : NONE;

    return index == NONE ? NULL : &o->table[index];
}

static void owners_hash(struct owners *o, uint32_t index)
{
    uint32_t *bucket = owners_bucket(o, &o->table[index]);

    o->table[index].next = *bucket;
    *bucket = index;
}

static bool owners_grow(struct owners *o)
{
    uint32_t capacity = o->capacity ? 2 * o->capacity : FIRST_CAPACITY;
    struct owner *table = realloc(o->table, capacity * sizeof(*table));
    uint32_t *buckets = NULL;

    if (table) {
        o->table = table;
        buckets = realloc(o->buckets, capacity * sizeof(*buckets));
    }
    if (!buckets)
        return false;
    o->buckets = buckets;
    o->capacity = capacity;
    memset(buckets, 0xff, capacity * sizeof(*buckets)); /* NONE */
    for (uint32_t i = 0; i < o->count; i++)
        owners_hash(o, i);
    return true;
}

static bool owners_add(struct owners *o, const struct owner *owner)
{
    if (o->count == OWNERS_MAX || (o->count == o->capacity && !owners_grow(o)))
        return false;
    o->table[o->count] = *owner;
    owners_hash(o, o->count);
    __atomic_store_n(&o->count, o->count + 1, __ATOMIC_RELAXED);
    return true;
}

/* The last entry takes the place of the one removed. */
static void owners_remove(struct owners *o, const struct owner *file)
{
    uint32_t *link = owners_link(o, file), index = *link, last = o->count - 1;

    *link = o->table[index].next;
    if (index != last) {
        *owners_link(o, &o->table[last]) = index;
        o->table[index] = o->table[last];
    }
    __atomic_store_n(&o->count, last, __ATOMIC_RELAXED);
}

/* Replaces what is remembered of a file. */
static int owners_put(struct owners *o, const struct owner *owner)
{
    struct owner *found = owners_find(o, owner);

    if (owner_says_nothing(owner)) {
        if (found)
            owners_remove(o, owner);
        return 0;
    }
    if (found) {
        found->uid = owner->uid;
        found->gid = owner->gid;
        found->set_id = owner->set_id;
        return 0;
    }
    if (owners_add(o, owner))
        return 0;
    if (!o->told_full)
        log_warn("share %s: no room to remember the guest's owners and set-ID bits of more than "
                 "%u files",
                 o->path, o->count);
    o->told_full = true;
    return -ENOSPC;
}

/* A copy of what is remembered of a file. */
static struct owner owners_get(struct owners *o, const struct statx *attr)
{
    struct owner owner = owner_of(attr), *found;

    if (__atomic_load_n(&o->count, __ATOMIC_RELAXED) == 0)
        return owner;
    LOCK_SCOPE(&o->lock);
    found = owners_find(o, &owner);
    return found ? *found : owner;
}

/*
 * Stores `owner`, and says once that set-ID bits are not the host's: those of directories hardly
 * matter, as they give no rights.
 */
static int owners_remember(struct owners *o, const struct owner *owner, const struct statx *attr)
{
    LOCK_SCOPE(&o->lock);
    if (owner->set_id && !S_ISDIR(attr->stx_mode) && !o->told_set_id) {
        o->told_set_id = true;
        log_warn("share %s: set-ID bits of files are shown to the guest, but not set on the host",
                 o->path);
    }
    return owners_put(o, owner);
}

/* Attributes. */

static void owners_show_as(const struct owners *o, const struct owner *owner, struct statx *attr)
{
    bool ours = attr->stx_uid == o->uid;

    attr->stx_uid = ours ? o->guest_uid : attr->stx_uid;
    attr->stx_gid = attr->stx_gid == o->gid ? o->guest_gid : attr->stx_gid;
    if (o->uid != 0 && !ours) /* the host has given it away since */
        return;
    if (owner->uid != OWNER_KEEP)
        attr->stx_uid = owner->uid;
    if (owner->gid != OWNER_KEEP)
        attr->stx_gid = owner->gid;
    attr->stx_mode |= (uint16_t)owner->set_id;
}

void owners_show(struct owners *o, struct statx *attr)
{
    const struct owner owner = owners_get(o, attr);

    owners_show_as(o, &owner, attr);
}

static int owner_change(int fd, uint32_t uid, uint32_t gid)
{
    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* One of a file's ids: which it has on the host, what the guest is shown for it. */
struct owner_id {
    uint32_t ours, guests; /* the process's, and what the guest is shown for it */
    uint32_t shown;        /* the file's, in the guest */
    bool group;
};

/* Sets one id, on the host if it allows that. Returns what is to be remembered, or -errno. */
static int owners_set_id(int fd, const struct owner_id *id, uint32_t wanted, bool own,
                         uint32_t *remembered)
{
    uint32_t host = wanted == id->guests ? id->ours : wanted;
    int error =
        wanted == id->ours && wanted != id->guests
            ? -EPERM /* this number means something else on the host */
            : owner_change(fd, id->group ? OWNER_KEEP : host, id->group ? host : OWNER_KEEP);

    if (error != -EPERM && error != -EINVAL) { /* EINVAL: not in this user namespace */
        if (!error)
            *remembered = OWNER_KEEP;
        return error;
    }
    if (!own)
        return wanted == id->shown ? 0 : -EPERM;
    *remembered = wanted;
    return 0;
}

/* As an ordinary user. */
static int owners_set_ids(struct owners *o, int fd, struct owner *owner, const struct statx *attr,
                          uint32_t uid, uint32_t gid)
{
    bool own = attr->stx_uid == o->uid;
    struct statx shown = *attr;
    int error = 0;

    owners_show_as(o, owner, &shown);
    if (uid != OWNER_KEEP)
        error = owners_set_id(fd, &(struct owner_id){ o->uid, o->guest_uid, shown.stx_uid, false },
                              uid, own, &owner->uid);
    if (!error && gid != OWNER_KEEP)
        error = owners_set_id(fd, &(struct owner_id){ o->gid, o->guest_gid, shown.stx_gid, true },
                              gid, own, &owner->gid);
    return error;
}

int owners_set(struct owners *o, int fd, uint32_t uid, uint32_t gid)
{
    struct owner owner;
    struct statx attr;
    int error = owner_stat(fd, "", &attr);

    if (error)
        return error;
    owner = owners_get(o, &attr);
    error =
        o->uid == 0 ? owner_change(fd, uid, gid) : owners_set_ids(o, fd, &owner, &attr, uid, gid);
    if (error)
        return error;
    if (!S_ISDIR(attr.stx_mode))
        owner.set_id = 0;
    return owners_remember(o, &owner, &attr);
}

int owners_set_mode(struct owners *o, int fd, mode_t mode)
{
    struct owner owner;
    struct statx attr;
    int error;

    if (!(mode & SET_ID) && __atomic_load_n(&o->count, __ATOMIC_RELAXED) == 0)
        return 0;
    error = owner_stat(fd, "", &attr);
    if (error)
        return error;
    owner = owners_get(o, &attr);
    owner.set_id = mode & ~attr.stx_mode & SET_ID;
    return owners_remember(o, &owner, &attr);
}

void owners_written(struct owners *o, int fd)
{
    mode_t cleared = S_ISUID;
    struct owner owner;
    struct statx attr;

    if ((o->uid != 0 && __atomic_load_n(&o->count, __ATOMIC_RELAXED) == 0) ||
        owner_stat(fd, "", &attr))
        return;
    owner = owners_get(o, &attr);
    if (attr.stx_mode & S_IXGRP) /* as the kernel does */
        cleared |= S_ISGID;
    if (attr.stx_mode & cleared) /* the host clears them unless the process runs as root */
        fchmod(fd, attr.stx_mode & ~cleared & ~(mode_t)S_IFMT);
    if (!(owner.set_id & cleared))
        return;
    owner.set_id &= ~cleared;
    owners_remember(o, &owner, &attr);
}

/* A new file. */

/*
 * Whether the file found at the name can be none but the one made there: nobody else's, of the same
 * type, and young. Where the time of birth is unknown, that of the last change of contents takes
 * its place, which a rename leaves alone.
 */
static bool owner_is_made(const struct owners *o, const struct owner_created *created,
                          const struct statx *attr)
{
    const struct statx_timestamp *born =
        attr->stx_mask & STATX_BTIME ? &attr->stx_btime : &attr->stx_mtime;
    bool young =
        born->tv_sec > created->since.tv_sec || (born->tv_sec == created->since.tv_sec &&
                                                 born->tv_nsec >= (uint64_t)created->since.tv_nsec);

    return attr->stx_uid == o->uid && (attr->stx_mode & S_IFMT) == (created->mode & S_IFMT) &&
           attr->stx_nlink <= (S_ISDIR(attr->stx_mode) ? 2 : 1) && young;
}

/* Gives a new file to `user` on the host, if that works: updates `attr`. */
static void owners_give(const struct owners *o, int fd, uint32_t uid, uint32_t gid,
                        struct statx *attr)
{
    if (o->uid != 0 || owner_change(fd, uid, gid))
        return;
    attr->stx_uid = uid;
    attr->stx_gid = gid;
}

/* What the guest must be shown of a new file that the host does not say. */
static void owners_note_new(const struct owners *o, uint32_t uid, uint32_t gid, mode_t mode,
                            const struct statx *parent, const struct statx *attr,
                            struct owner *owner)
{
    struct statx shown = *attr;

    owners_show_as(o, owner, &shown);
    owner->uid = shown.stx_uid == uid ? OWNER_KEEP : uid;
    owner->gid = shown.stx_gid == gid ? OWNER_KEEP : gid;
    if (S_ISDIR(attr->stx_mode))
        mode = parent->stx_mode & S_ISGID;
    owner->set_id = mode & ~attr->stx_mode & SET_ID;
}

void owners_created(struct owners *o, const struct owner_created *created,
                    const struct share_user *user)
{
    cleanup_close int opened = -1;
    int fd = created->fd;
    struct statx parent, attr;
    struct owner owner;
    uint32_t gid;

    if (user->uid == o->guest_uid && user->gid == o->guest_gid && !(created->mode & SET_ID) &&
        __atomic_load_n(&o->count, __ATOMIC_RELAXED) == 0)
        return; /* it is the process's, as it should be */
    if (fd < 0)
        fd = opened = openat(created->directory, created->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || owner_stat(created->directory, "", &parent) || owner_stat(fd, "", &attr))
        return;
    owners_show(o, &parent);
    gid = parent.stx_mode & S_ISGID ? parent.stx_gid : user->gid;
    if (created->fd >= 0 || owner_is_made(o, created, &attr))
        owners_give(o, fd, user->uid, gid, &attr);
    owner = owner_of(&attr);
    owners_note_new(o, user->uid, gid, created->mode, &parent, &attr, &owner);
    owners_remember(o, &owner, &attr);
}

void owners_forget(struct owners *o, const struct statx *attr)
{
    const struct owner nothing = owner_of(attr);

    if (__atomic_load_n(&o->count, __ATOMIC_RELAXED) == 0)
        return;
    LOCK_SCOPE(&o->lock);
    owners_put(o, &nothing);
}

void owners_init(struct owners *o, const struct share_options *options)
{
    *o = (struct owners){ .path = options->path,
                          .uid = geteuid(),
                          .gid = getegid(),
                          .guest_uid = options->guest_uid,
                          .guest_gid = options->guest_gid };
    if (o->uid == 0) {
        o->guest_uid = o->uid;
        o->guest_gid = o->gid;
    }
    pthread_mutex_init(&o->lock, NULL);
}

void owners_finish(struct owners *o)
{
    pthread_mutex_destroy(&o->lock);
    free(o->table);
    free(o->buckets);
}

/* State. */

/* Device numbers are saved as those of nodes are: not if they are the root's. */
static void owner_state(struct owner *owner, const struct identity *root, struct state *s)
{
    bool elsewhere = owner->dev_major != root->dev_major || owner->dev_minor != root->dev_minor;

    state_field(s, owner, ino);
    state_field(s, owner, born);
    state_field(s, owner, uid);
    state_field(s, owner, gid);
    state_field(s, owner, set_id);
    state_bool(s, "elsewhere", &elsewhere);
    if (!elsewhere) {
        owner->dev_major = root->dev_major;
        owner->dev_minor = root->dev_minor;
        return;
    }
    state_field(s, owner, dev_major);
    state_field(s, owner, dev_minor);
}

void owners_state(struct owners *o, const struct identity *root, struct state *s)
{
    uint32_t count = state_count(s, "owners", o->count, OWNERS_MAX);

    for (uint32_t i = 0; i < count && !s->error; i++) {
        struct owner owner = { .next = NONE };

        if (!s->loading)
            owner = o->table[i];
        owner_state(&owner, root, s);
        if (!s->loading || s->error)
            continue;
        if (owner_says_nothing(&owner) || owner.set_id & ~(uint32_t)SET_ID ||
            owners_find(o, &owner) || !owners_add(o, &owner))
            state_fail(s, "owner %u is invalid", i);
    }
}
