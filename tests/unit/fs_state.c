/* SPDX-License-Identifier: MIT */

/* Saves a share and loads it into a new one: which nodes and handles stay valid, which are lost. */
#include "vmm/core/state.h"

#include <errno.h>
#include <sys/mount.h>

#include "tests/unit/fuse_client.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"

#define ROOT FUSE_ROOT_ID

static struct client c;

static void setup(void)
{
    client_init(&c, true);
    client_write_file(&c, "file", "the file's text");
    ck_assert_int_eq(mkdir(client_path(&c, "folder"), 0755), 0);
    client_write_file(&c, "folder/inner", "inner");
}

static void teardown(void)
{
    client_finish(&c);
}

static void save(struct state *s)
{
    state_begin_save(s);
    state_section(s, "fs0", 1);
    ck_assert_uint_eq(fuse_state(c.fuse, s), 0);
    state_end_section(s);
    ck_assert_int_eq(s->error, 0);
}

/* Replaces the share by a new one of the same directory, and loads the state. */
static int load_as(const struct state *saved, bool writable, unsigned *ret_lost)
{
    struct state s;

    client_stop(&c);
    client_start(&c, client_path(&c, ""), writable);
    state_begin_load(&s, saved->bytes, saved->at);
    state_section(&s, "fs0", 1);
    *ret_lost = fuse_state(c.fuse, &s);
    state_end_section(&s);
    return state_finish(&s);
}

/* Saves and loads, and checks that saving again gives the same. Returns the files lost. */
static unsigned restore(void)
{
    struct state saved, again;
    unsigned lost;

    save(&saved);
    ck_assert_int_eq(load_as(&saved, true, &lost), 0);
    save(&again);
    ck_assert_uint_eq(again.at, saved.at);
    ck_assert_mem_eq(again.bytes, saved.bytes, saved.at);
    state_finish(&again);
    state_finish(&saved);
    return lost;
}

static void check_read(uint64_t node, uint64_t handle, const char *text)
{
    ck_assert_int_eq(client_read(&c, FUSE_READ, node, handle, 0, 100), 0);
    ck_assert_uint_eq(client_got(&c), strlen(text));
    ck_assert_mem_eq(c.reply.payload, text, strlen(text));
}

static void rename_on_host(const char *from, const char *to)
{
    char old[128];

    strcpy(old, client_path(&c, from));
    ck_assert_int_eq(rename(old, client_path(&c, to)), 0);
}

START_TEST(an_unused_share_is_restored)
{
    ck_assert_uint_eq(restore(), 0);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "file"), 2);
}
END_TEST

START_TEST(nodes_and_handles_survive_a_load)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");
    uint64_t inner = client_lookup(&c, folder, "inner");
    uint64_t read = client_open(&c, inner, O_RDONLY), write = client_open(&c, file, O_RDWR);

    ck_assert_uint_eq(restore(), 0);
    check_read(inner, read, "inner");
    ck_assert_int_eq(client_write(&c, file, write, 4, "FILE"), 0);
    check_read(file, write, "the FILE's text");
    ck_assert_int_eq(client_write(&c, inner, read, 0, "no"), EBADF);
    ck_assert_uint_eq(client_lookup(&c, folder, "inner"), inner);
    ck_assert_int_eq(client_getattr(&c, folder), 0);

    client_forget(&c, inner, 1); /* two lookups: one before, one after the load */
    ck_assert_int_eq(client_getattr(&c, inner), 0);
    client_forget(&c, inner, 1);
    ck_assert_int_eq(client_getattr(&c, inner), ESTALE);
    check_read(inner, read, "inner");
    ck_assert_uint_eq(restore(), 0);
    check_read(inner, read, "inner");
    ck_assert_int_eq(client_release(&c, inner, read), 0);
    ck_assert_int_eq(client_release(&c, inner, read), EBADF);
}
END_TEST

START_TEST(open_flags_survive_a_load)
{
    uint64_t file = client_lookup(&c, ROOT, "file");
    uint64_t first = client_open(&c, file, O_RDWR | O_TRUNC | O_SYNC);
    uint64_t second = client_open(&c, file, O_WRONLY | O_APPEND);

    ck_assert_int_eq(client_write(&c, file, first, 0, "text"), 0);
    ck_assert_uint_eq(restore(), 0);
    check_read(file, first, "text"); /* O_TRUNC was not repeated */
    ck_assert_int_eq(client_write(&c, file, second, 0, "s"), 0);
    check_read(file, first, "texts");
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, second, 0, 10), EBADF);
}
END_TEST

/* Counts entries from `offset` on. Returns the offset after `most` of them. */
static uint64_t list(uint64_t handle, uint64_t offset, unsigned most, unsigned *count)
{
    const struct fuse_dirent *dirent = (const void *)c.reply.payload;

    while (most-- > 0) {
        ck_assert_int_eq(client_read(&c, FUSE_READDIR, ROOT, handle, offset, 64), 0);
        if (client_got(&c) == 0)
            break;
        offset = dirent->off;
        ++*count;
    }
    return offset;
}

START_TEST(a_listing_continues_after_a_load)
{
    unsigned count = 0;
    uint64_t handle, offset;
    char name[32];

    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "a-rather-long-name-%u", i);
        client_write_file(&c, name, "");
    }
    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, ROOT, 0, &handle), 0);
    offset = list(handle, 0, 15, &count);
    ck_assert_uint_eq(restore(), 0);
    list(handle, offset, 100, &count);
    ck_assert_uint_eq(count, 44); /* with ".", "..", file, folder */
}
END_TEST

START_TEST(stale_ids_stay_stale_and_new_ids_are_unused)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), old[6], handle;
    uint64_t folder = client_lookup(&c, ROOT, "folder");

    for (unsigned i = 0; i < 3; i++) {
        old[i] = client_lookup(&c, folder, "inner");
        old[3 + i] = client_open(&c, file, O_RDONLY);
        client_forget(&c, old[i], 1);
        client_release(&c, file, old[3 + i]);
    }
    client_forget(&c, folder, 1);
    ck_assert_uint_eq(restore(), 0);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(client_getattr(&c, old[i]), ESTALE);
        ck_assert_int_eq(client_read(&c, FUSE_READ, file, old[3 + i], 0, 1), EBADF);
    }
    ck_assert_int_eq(client_getattr(&c, folder), ESTALE);
    ck_assert_int_eq(client_getattr(&c, file | 1ull << 32), ESTALE);
    ck_assert_int_eq(client_getattr(&c, 1000), ESTALE);
    handle = client_open(&c, file, O_RDONLY);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_ne(handle, old[3 + i]);
    for (unsigned n = 0; n < 5; n++) {
        uint64_t node = client_lookup(&c, ROOT, "folder");

        ck_assert_uint_ne(node, folder);
        for (unsigned i = 0; i < 3; i++)
            ck_assert_uint_ne(node, old[i]);
        client_forget(&c, node, 1);
    }
}
END_TEST

START_TEST(a_replaced_file_is_lost)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDWR);
    uint64_t folder = client_lookup(&c, ROOT, "folder");
    uint64_t inner = client_lookup(&c, folder, "inner");
    uint64_t good = client_open(&c, inner, O_RDWR);
    const struct fuse_fsync_in sync = { .fh = handle };
    const struct fuse_lseek_in seek = { .fh = handle, .whence = SEEK_DATA };
    const struct fuse_fallocate_in allocate = { .fh = handle, .length = 10 };
    const struct fuse_setattr_in cut = { .valid = FATTR_SIZE | FATTR_FH, .fh = handle };

    client_write_file(&c, "other", "other");
    rename_on_host("other", "file");
    ck_assert_uint_eq(restore(), 1);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_int_eq(client_open_as(&c, FUSE_OPEN, file, O_RDONLY, NULL), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 10), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READDIR, file, handle, 0, 100), ESTALE);
    ck_assert_int_eq(client_write(&c, file, handle, 0, "x"), ESTALE);
    ck_assert_int_eq(client_ask(&c, FUSE_FSYNC, file, &sync, sizeof(sync), NULL, NULL), ESTALE);
    ck_assert_int_eq(client_ask(&c, FUSE_LSEEK, file, &seek, sizeof(seek), NULL, NULL), ESTALE);
    ck_assert_int_eq(client_ask(&c, FUSE_FALLOCATE, file, &allocate, sizeof(allocate), NULL, NULL),
                     ESTALE);
    ck_assert_int_eq(client_ask(&c, FUSE_SETATTR, file, &cut, sizeof(cut), NULL, NULL), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle + 7, 0, 10), EBADF);
    ck_assert_uint_eq(restore(), 1); /* still lost */
    ck_assert_int_eq(client_release(&c, file, handle), 0);
    ck_assert_int_eq(client_release(&c, file, handle), EBADF);
    check_read(inner, good, "inner");
    ck_assert_uint_ne(client_lookup(&c, ROOT, "file"), file);
}
END_TEST

START_TEST(deleted_files_are_lost)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDWR);
    uint64_t folder = client_lookup(&c, ROOT, "folder");
    uint64_t inner = client_lookup(&c, folder, "inner"), other = client_open(&c, inner, O_RDONLY);
    uint64_t directory;

    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, folder, 0, &directory), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "file", NULL), 0);
    rename_on_host("folder", "../folder"); /* out of the share */
    ck_assert_uint_eq(restore(), 3);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_int_eq(client_getattr(&c, inner), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 10), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READ, inner, other, 0, 10), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READDIR, folder, directory, 0, 100), ESTALE);
    rename_on_host("../folder", "folder");
    ck_assert_uint_eq(restore(), 1); /* back in its place */
    check_read(inner, other, "inner");
    ck_assert_int_eq(client_release(&c, file, handle), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_DESTROY, 0, NULL, 0, NULL, NULL), 0);
}
END_TEST

/* A node may have a lower id than its parent: parents must be saved first. */
START_TEST(files_moved_by_the_guest_are_restored)
{
    const struct fuse_rename_in rename = { .newdir = 4 };
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");
    uint64_t deep, handle = client_open(&c, file, O_RDONLY);
    const struct fuse_mkdir_in directory = { .mode = 0755 };

    ck_assert_int_eq(
        client_ask(&c, FUSE_MKDIR, folder, &directory, sizeof(directory), "deep", NULL), 0);
    deep = client_entry(&c)->nodeid;
    ck_assert_uint_eq(deep, 4);
    ck_assert_int_eq(client_ask(&c, FUSE_RENAME, ROOT, &rename, sizeof(rename), "file", "moved"),
                     0);
    ck_assert_uint_eq(restore(), 0);
    check_read(file, handle, "the file's text");
    ck_assert_uint_eq(client_lookup(&c, deep, "moved"), file);
}
END_TEST

/* By stale names, a is in b and b in a: the old node of a is superseded. */
START_TEST(a_superseded_node_is_restored)
{
    uint64_t a, b, again;

    ck_assert_int_eq(mkdir(client_path(&c, "a"), 0755), 0);
    ck_assert_int_eq(mkdir(client_path(&c, "a/b"), 0755), 0);
    a = client_lookup(&c, ROOT, "a");
    b = client_lookup(&c, a, "b");
    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, b, 0, NULL), 0);
    rename_on_host("a/b", "b");
    rename_on_host("a", "b/a");
    again = client_lookup(&c, b, "a");
    ck_assert_uint_ne(again, a);
    ck_assert_uint_eq(restore(), 1); /* b is no longer in a */
    ck_assert_uint_eq(client_lookup(&c, ROOT, "b"), b);
    ck_assert_uint_eq(client_lookup(&c, b, "a"), again);
    ck_assert_int_eq(client_getattr(&c, again), 0);
}
END_TEST

/* The share's directory was replaced: the same file in it is another node. */
START_TEST(all_is_stale_in_another_directory)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);
    struct state saved;
    unsigned lost;

    save(&saved);
    rename_on_host("", "../old");
    ck_assert_int_eq(mkdir(client_path(&c, ""), 0755), 0);
    rename_on_host("../old/file", "file");
    ck_assert_int_eq(load_as(&saved, true, &lost), 0);
    ck_assert_uint_eq(lost, 1);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 10), ESTALE);
    ck_assert_uint_ne(client_lookup(&c, ROOT, "file"), file);
    ck_assert_uint_eq(restore(), 1);
    state_finish(&saved);
}
END_TEST

START_TEST(another_mount_id_of_the_share_is_accepted)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);
    struct state saved;
    unsigned lost;

    save(&saved);
    if (!tree_own_mounts()) /* all mount ids differ there */
        unit_skip(TREE_NO_MOUNTS);
    ck_assert_int_eq(load_as(&saved, true, &lost), 0);
    ck_assert_uint_eq(lost, 0);
    check_read(file, handle, "the file's text");
    ck_assert_int_eq(client_release(&c, file, handle), 0);
    ck_assert_int_eq(client_getattr(&c, file), 0);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "file"), file);
    state_finish(&saved);
}
END_TEST

/* Files on another mount than the root's are valid only while that stays mounted. */
START_TEST(mounts_within_the_share_need_the_same_id)
{
    uint64_t inner, handle;

    if (!tree_own_mounts())
        unit_skip(TREE_NO_MOUNTS);
    ck_assert_int_eq(mount("none", client_path(&c, "folder"), "tmpfs", 0, NULL), 0);
    restore(); /* gives the root its new mount id */
    client_write_file(&c, "folder/inner", "within");
    inner = client_lookup(&c, client_lookup(&c, ROOT, "folder"), "inner");
    handle = client_open(&c, inner, O_RDONLY);
    ck_assert_uint_eq(restore(), 0);
    check_read(inner, handle, "within");
    ck_assert_int_eq(client_release(&c, inner, handle), 0);
    ck_assert_uint_eq(restore(), 0);
    umount2(client_path(&c, "folder"), MNT_DETACH);
    ck_assert_uint_eq(restore(), 0);
    ck_assert_int_eq(client_getattr(&c, inner), ESTALE);
}
END_TEST

START_TEST(a_writable_share_is_not_loaded_read_only)
{
    struct state saved;
    unsigned lost;

    client_lookup(&c, ROOT, "file");
    save(&saved);
    ck_assert_int_eq(load_as(&saved, false, &lost), -EINVAL);
    state_finish(&saved);
}
END_TEST

/* Points to the value of the nth field of this name in the state. */
static uint8_t *field_of(const struct state *saved, const char *name, unsigned nth)
{
    uint8_t key[32] = { (uint8_t)strlen(name) };
    uint8_t *at = saved->bytes;

    memcpy(key + 1, name, key[0]);
    do {
        at = memmem(at, (size_t)(saved->bytes + saved->at - at), key, key[0] + 1u);
        ck_assert_ptr_nonnull(at);
        at += key[0] + 1;
    } while (nth-- > 0);
    return at;
}

/* Nodes: file 2, folder 3, inner 4, a free slot. Handles: 1 of file, 2 of folder, a free slot. */
static void save_some(struct state *saved)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");
    uint64_t handle;

    client_lookup(&c, folder, "inner");
    client_write_file(&c, "gone", "");
    client_forget(&c, client_lookup(&c, ROOT, "gone"), 1);
    client_open(&c, file, O_RDWR);
    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, folder, 0, NULL), 0);
    handle = client_open(&c, file, O_RDONLY);
    client_release(&c, file, handle);
    save(saved);
}

/* Sends requests for all nodes and handles there may be. */
static void use_all(void)
{
    for (uint64_t node = 0; node < 8; node++) {
        client_getattr(&c, node);
        client_ask(&c, FUSE_LOOKUP, node, NULL, 0, "inner", NULL);
        for (uint64_t handle = 0; handle < 5; handle++) {
            client_read(&c, FUSE_READ, node, handle, 0, 100);
            client_read(&c, FUSE_READDIRPLUS, node, handle, 0, 4096);
        }
        client_open_as(&c, FUSE_OPEN, node, O_RDONLY, NULL);
    }
    for (uint64_t node = 0; node < 8; node++)
        client_forget(&c, node, UINT64_MAX);
}

START_TEST(impossible_states_are_refused)
{
    const struct {
        const char *field;
        unsigned nth;
        uint64_t value;
        unsigned size; /* bytes */
    } forgeries[] = {
        { "id", 0, 0, 8 },                  /* the root's id */
        { "id", 0, 1, 8 },                  /* the same */
        { "id", 0, 1ull << 32 | 1, 8 },     /* the same, of another generation */
        { "id", 1, 2, 8 },                  /* used twice */
        { "id", 1, 5, 8 },                  /* of a free slot */
        { "id", 1, 6, 8 },                  /* of no slot */
        { "id", 1, UINT64_MAX, 8 },         /* the same */
        { "parent", 0, 2, 8 },              /* its own parent */
        { "parent", 1, 4, 8 },              /* a cycle: 3 in 4 in 3 */
        { "parent", 2, 2, 8 },              /* not a directory */
        { "parent", 2, 0, 8 },              /* a name without a parent */
        { "parent", 2, 77, 8 },             /* no such node */
        { "parent", 2, 3 | 1ull << 32, 8 }, /* of another generation */
        { "places", 0, UINT32_MAX, 4 },     /* more than the maximum */
        { "places", 0, (1u << 18) + 1, 4 }, /* the same */
        { "places", 0, 0, 4 },              /* no slot for the root */
        { "places", 0, 4, 4 },              /* too few for the free ones */
        { "places", 0, 6, 4 },              /* one more than there are nodes */
        { "free", 0, 0, 4 },                /* too few */
        { "free", 0, 5, 4 },                /* too many */
        { "next_id", 0, 1, 8 },             /* the root is free */
        { "next_id", 0, 0, 8 },             /* no id */
        { "next_id", 0, 2, 8 },             /* the id of a node: fails when it is loaded */
        { "devices", 0, 128, 4 },           /* too many */
        { "hidden", 0, 2, 1 },              /* no boolean */
        { "name", 2, 6, 4 },                /* length extends into the next field */
        { "name", 2, 256, 4 },              /* longer than NAME_MAX */
        { "name", 2, 5 | (uint64_t)'.' << 32, 5 } /* valid, see below */,
        { "node", 0, 0, 8 },                 /* a handle without a node */
        { "node", 0, 77, 8 },                /* no such node */
        { "node", 1, 2, 8 },                 /* valid: another handle of the file */
        { "flags", 1, O_WRONLY, 4 },         /* write access to a directory */
        { "flags", 0, O_CREAT, 4 },          /* a flag that is never saved */
        { "flags", 0, O_RDWR | O_TRUNC, 4 }, /* the same */
    };
    struct state saved;
    unsigned lost, good = 0;

    save_some(&saved);
    for (unsigned i = 0; i < ARRAY_SIZE(forgeries); i++) {
        uint8_t *at = field_of(&saved, forgeries[i].field, forgeries[i].nth), before[8];

        memcpy(before, at, sizeof(before));
        memcpy(at, &forgeries[i].value, forgeries[i].size);
        good += load_as(&saved, true, &lost) == 0;
        use_all();
        memcpy(at, before, sizeof(before));
    }
    ck_assert_uint_eq(good, 2); /* ".nner" is a valid name */
    ck_assert_int_eq(load_as(&saved, true, &lost), 0);
    ck_assert_uint_eq(lost, 0);
    state_finish(&saved);
}
END_TEST

START_TEST(invalid_names_are_refused)
{
    const char *const names[] = { "..", ".", "/", "a/b", "/etc", "", "../secret", "i\0ner" };
    struct state saved;
    unsigned lost;

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        uint32_t length = i == 7 ? 5 : (uint32_t)strlen(names[i]);
        char name[10] = "xxxxxxxxx";
        uint8_t *at;

        name[length] = '\0';
        client_lookup(&c, ROOT, "folder");
        if (length > 0) {
            client_write_file(&c, name, "x");
            client_lookup(&c, ROOT, name);
        }
        save(&saved);
        at = field_of(&saved, "name", length > 0);
        if (length == 0)
            memcpy(at, &length, sizeof(length));
        memcpy(at + 4, names[i], length);
        ck_assert_int_eq(load_as(&saved, true, &lost), -EINVAL);
        use_all();
        state_finish(&saved);
        ck_assert_int_eq(client_ask(&c, FUSE_DESTROY, 0, NULL, 0, NULL, NULL), 0);
        client_stop(&c);
        client_start(&c, client_path(&c, ""), true);
    }
}
END_TEST

/* Changes each byte: the result is an error or a valid state. */
START_TEST(damaged_states_do_no_harm)
{
    const uint8_t changes[] = { 0xff, 0x01, 0x80 };
    struct state saved;
    unsigned lost;

    save_some(&saved);
    for (size_t at = 0; at < saved.at; at++)
        for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
            saved.bytes[at] ^= changes[i];
            load_as(&saved, true, &lost);
            use_all();
            saved.bytes[at] ^= changes[i];
        }
    ck_assert_int_eq(load_as(&saved, true, &lost), 0);
    state_finish(&saved);
}
END_TEST

/* Also if the state says that a node of /proc is not hidden. */
START_TEST(pseudo_filesystems_are_hidden)
{
    struct client all = { .top = "" };
    struct state saved, s;
    uint64_t proc;
    uint8_t *hidden;

    client_start(&all, "/", false);
    proc = client_lookup(&all, ROOT, "proc");
    state_begin_save(&saved);
    state_section(&saved, "fs0", 1);
    fuse_state(all.fuse, &saved);
    state_end_section(&saved);
    hidden = field_of(&saved, "hidden", 0);
    ck_assert_uint_eq(*hidden, 1);
    *hidden = 0;

    client_stop(&all);
    client_start(&all, "/", false);
    state_begin_load(&s, saved.bytes, saved.at);
    state_section(&s, "fs0", 1);
    ck_assert_uint_eq(fuse_state(all.fuse, &s), 0);
    state_end_section(&s);
    ck_assert_int_eq(state_finish(&s), 0);
    ck_assert_int_eq(client_open_as(&all, FUSE_OPENDIR, proc, 0, NULL), EACCES);
    ck_assert_int_eq(client_ask(&all, FUSE_LOOKUP, proc, NULL, 0, "self", NULL), EACCES);
    state_finish(&saved);
    client_finish(&all);
}
END_TEST

START_TEST(thousands_of_nodes_are_restored)
{
    enum { DEPTH = 500, WIDTH = 20 };
    static uint64_t nodes[DEPTH];
    const struct fuse_mkdir_in directory = { .mode = 0755 };
    uint64_t parent = ROOT;
    char name[32];

    for (unsigned i = 0; i < DEPTH; i++) {
        ck_assert_int_eq(
            client_ask(&c, FUSE_MKDIR, parent, &directory, sizeof(directory), "d", NULL), 0);
        nodes[i] = parent = client_entry(&c)->nodeid;
        for (unsigned j = 0; i % 10 == 0 && j < WIDTH; j++) {
            snprintf(name, sizeof(name), "n%u", j);
            ck_assert_int_eq(client_ask(&c, FUSE_SYMLINK, parent, NULL, 0, name, "nowhere"), 0);
        }
    }
    ck_assert_uint_eq(restore(), 0);
    for (unsigned i = 0; i < DEPTH; i++)
        ck_assert_int_eq(client_getattr(&c, nodes[i]), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fs_state");
    TCase *tcase = tcase_create("fs_state");
    const TTest *const tests[] = {
        an_unused_share_is_restored,
        nodes_and_handles_survive_a_load,
        open_flags_survive_a_load,
        a_listing_continues_after_a_load,
        stale_ids_stay_stale_and_new_ids_are_unused,
        a_replaced_file_is_lost,
        deleted_files_are_lost,
        files_moved_by_the_guest_are_restored,
        a_superseded_node_is_restored,
        all_is_stale_in_another_directory,
        another_mount_id_of_the_share_is_accepted,
        mounts_within_the_share_need_the_same_id,
        a_writable_share_is_not_loaded_read_only,
        impossible_states_are_refused,
        invalid_names_are_refused,
        damaged_states_do_no_harm,
        pseudo_filesystems_are_hidden,
        thousands_of_nodes_are_restored,
    };

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
