/* SPDX-License-Identifier: MIT */

/*
 * Whom files belong to in the guest, set-ID bits and modes of new files, and extended attributes:
 * if the process's user is root, and if it is not.
 */
#include "devices/fs/owner.h"

#include <errno.h>
#include <grp.h>
#include <linux/posix_acl_xattr.h>
#include <malloc.h>
#include <stdbool.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "devices/fs/node.h"
#include "settings.h"
#include "tests/unit/fuse_client.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/state.h"

#define ROOT  FUSE_ROOT_ID
#define USER  4321u /* of the host, if the tests are run by root */
#define GROUP 8765u

static struct client c;
static bool others; /* there is a file `others` that belongs to 55:66 on the host */

static void setup_as(bool ordinary)
{
    client_init(&c, true);
    client_stop(&c);
    umask(022);
    if (getuid() == 0) {
        client_write_file(&c, "others", "");
        others = chown(c.path, 55, 66) == 0;
    }
    if (getuid() == 0 && ordinary) {
        ck_assert_int_eq(chown(c.top, USER, GROUP), 0);
        ck_assert_int_eq(chown(client_path(&c, ""), USER, GROUP), 0);
        ck_assert_int_eq(setgroups(0, NULL), 0);
        ck_assert_int_eq(setresgid(GROUP, GROUP, GROUP), 0);
        ck_assert_int_eq(setresuid(USER, USER, USER), 0);
    }
    client_write_file(&c, "file", "text");
    ck_assert_int_eq(mkdir(client_path(&c, "folder"), 0755), 0);
    umask(077); /* must not matter */
    client_start(&c, client_path(&c, ""), true);
}

static void setup_user(void)
{
    setup_as(true);
}

static void setup_any(void)
{
    setup_as(false);
}

static void teardown(void)
{
    client_finish(&c);
}

static struct stat host_stat(const char *name)
{
    struct stat stat;

    ck_assert_int_eq(lstat(client_path(&c, name), &stat), 0);
    return stat;
}

static int change_owner(uint64_t node, uint32_t uid, uint32_t gid)
{
    return client_setattr(
        &c, node,
        (struct fuse_setattr_in){ .valid = FATTR_UID | FATTR_GID, .uid = uid, .gid = gid });
}

static int change_mode(uint64_t node, mode_t mode)
{
    return client_setattr(&c, node, (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = mode });
}

/* Are these what the guest is shown? */
static void check_shown(uint64_t node, uint32_t uid, uint32_t gid, mode_t permissions)
{
    ck_assert_int_eq(client_getattr(&c, node), 0);
    ck_assert_uint_eq(client_attr(&c)->uid, uid);
    ck_assert_uint_eq(client_attr(&c)->gid, gid);
    ck_assert_uint_eq(client_attr(&c)->mode & 07777, permissions);
}

/* The request's next bytes are the arguments of an operation that creates a file. */
static int create_as(uint32_t uid, uint32_t gid, uint32_t opcode, uint64_t parent, const void *args,
                     size_t size, const char *name)
{
    client_begin(&c, opcode, parent);
    ((struct fuse_in_header *)(void *)c.request)->uid = uid;
    ((struct fuse_in_header *)(void *)c.request)->gid = gid;
    client_add(&c, args, size);
    client_add(&c, name, strlen(name) + 1);
    return client_send(&c);
}

static uint64_t make_directory(uint32_t uid, uint32_t gid, uint64_t parent, const char *name)
{
    const struct fuse_mkdir_in in = { .mode = 0755 };

    ck_assert_int_eq(create_as(uid, gid, FUSE_MKDIR, parent, &in, sizeof(in), name), 0);
    return client_entry(&c)->nodeid;
}

static int make_node(uint32_t uid, uint32_t gid, mode_t mode, mode_t mask, const char *name)
{
    const struct fuse_mknod_in in = { .mode = mode, .umask = mask, .rdev = makedev(1, 3) };

    return create_as(uid, gid, FUSE_MKNOD, ROOT, &in, sizeof(in), name);
}

START_TEST(files_of_the_user_are_roots)
{
    check_shown(ROOT, 0, 0, 0755);
    check_shown(client_lookup(&c, ROOT, "file"), 0, 0, 0644);
    if (others)
        check_shown(client_lookup(&c, ROOT, "others"), 55, 66, 0644);
    check_shown(make_directory(0, 0, ROOT, "new"), 0, 0, 0755);
    ck_assert_uint_eq(host_stat("new").st_uid, getuid());
}
END_TEST

START_TEST(files_of_the_user_are_another_users)
{
    const struct share_options options = {
        .path = client_path(&c, ""), .writable = true, .guest_uid = 7, .guest_gid = 8
    };
    uint64_t file;

    client_stop(&c);
    client_start_with(&c, &options);
    file = client_lookup(&c, ROOT, "file");
    check_shown(file, 7, 8, 0644);
    ck_assert_int_eq(change_owner(file, 0, 0), 0);
    check_shown(file, 0, 0, 0644);
    check_shown(make_directory(0, 0, ROOT, "roots"), 0, 0, 0755);
    check_shown(make_directory(7, 8, ROOT, "users"), 7, 8, 0755);
}
END_TEST

START_TEST(owners_that_the_host_refuses_are_remembered)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");

    ck_assert_int_eq(change_owner(file, 0, 0), 0);
    check_shown(file, 0, 0, 0644);
    ck_assert_int_eq(change_owner(file, 77, 88), 0);
    ck_assert_int_eq(
        client_setattr(&c, folder, (struct fuse_setattr_in){ .valid = FATTR_GID, .gid = 99 }), 0);
    client_forget(&c, file, 1);
    file = client_lookup(&c, ROOT, "file");
    check_shown(file, 77, 88, 0644);
    check_shown(folder, 0, 99, 0755);
    ck_assert_uint_eq(host_stat("file").st_uid, getuid());
    ck_assert_int_eq(change_owner(file, getuid(), getgid()), 0); /* not root's: another number */
    check_shown(file, getuid(), getgid(), 0644);
    ck_assert_int_eq(change_owner(file, 0, 0), 0);
    check_shown(file, 0, 0, 0644);
    check_shown(folder, 0, 99, 0755);
}
END_TEST

START_TEST(other_users_files_are_not_given_away)
{
    uint64_t file;

    if (!others) /* needs root to make such a file */
        return;
    file = client_lookup(&c, ROOT, "others");
    ck_assert_int_eq(change_owner(file, 55, 66), 0);
    ck_assert_int_eq(change_owner(file, 0, 0), EPERM);
    ck_assert_int_eq(change_owner(file, 55, 77), EPERM);
    check_shown(file, 55, 66, 0644);
}
END_TEST

START_TEST(new_files_belong_to_who_created_them)
{
    uint64_t folder, inner;

    check_shown(make_directory(77, 88, ROOT, "theirs"), 77, 88, 0755);
    ck_assert_int_eq(make_node(77, 0, S_IFREG | 0644, 0, "reg"), 0);
    check_shown(client_lookup(&c, ROOT, "reg"), 77, 0, 0644);
    folder = make_directory(0, 0, ROOT, "group");
    ck_assert_int_eq(change_owner(folder, 0, 99), 0);
    ck_assert_int_eq(change_mode(folder, 02775), 0);
    check_shown(folder, 0, 99, 02775);
    inner = make_directory(77, 88, folder, "inner");
    check_shown(inner, 77, 99, 02755);
}
END_TEST

/* A file that takes the place, or only the inode, of a remembered one begins anew. */
START_TEST(owners_are_forgotten_with_the_file)
{
    for (unsigned i = 0; i < 3; i++) {
        const struct fuse_rename2_in in = { .newdir = ROOT };

        ck_assert_int_eq(make_node(77, 88, S_IFREG | 0644, 0, "a"), 0);
        ck_assert_int_eq(make_node(0, 0, S_IFREG | 0644, 0, "b"), 0);
        ck_assert_int_eq(client_ask(&c, FUSE_RENAME2, ROOT, &in, sizeof(in), "b", "a"), 0);
        check_shown(client_lookup(&c, ROOT, "a"), 0, 0, 0644);
        ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "a", NULL), 0);
    }
}
END_TEST

START_TEST(an_open_file_without_a_name_keeps_its_owner)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);

    ck_assert_int_eq(change_owner(file, 77, 88), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "file", NULL), 0);
    check_shown(file, 77, 88, 0644);
    client_release(&c, file, handle);
}
END_TEST

START_TEST(owners_survive_a_load)
{
    struct state saved, s;
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");

    ck_assert_int_eq(change_owner(file, 77, 88), 0);
    ck_assert_int_eq(change_mode(folder, 07755), 0);
    state_begin_save(&saved);
    state_section(&saved, "fs0", 1);
    ck_assert_uint_eq(fuse_state(c.fuse, &saved), 0);
    state_end_section(&saved);
    client_stop(&c);
    client_start(&c, client_path(&c, ""), true);
    state_begin_load(&s, saved.bytes, saved.at);
    state_section(&s, "fs0", 1);
    ck_assert_uint_eq(fuse_state(c.fuse, &s), 0);
    state_end_section(&s);
    ck_assert_int_eq(state_finish(&s), 0);
    check_shown(file, 77, 88, 0644);
    ck_assert_int_eq(client_getattr(&c, folder), 0);
    ck_assert_uint_eq(client_attr(&c)->mode, S_IFDIR | 07755);
    state_finish(&saved);
}
END_TEST

/* Writes what owners_state() loads as `count` files. */
static void forge_owners(struct state *s, uint32_t count, uint32_t set_id)
{
    struct {
        uint64_t ino, born;
        uint32_t uid, gid, set_id;
    } owner = { 1, 1, 77, 88, set_id };
    bool elsewhere = false;

    state_begin_save(s);
    state_section(s, "owners", 1);
    state_count(s, "owners", count, count);
    for (uint32_t i = 0; i < count; i++) {
        owner.ino = i / 2;
        owner.born = i % 2;
        state_field(s, &owner, ino);
        state_field(s, &owner, born);
        state_field(s, &owner, uid);
        state_field(s, &owner, gid);
        state_field(s, &owner, set_id);
        state_bool(s, "elsewhere", &elsewhere);
    }
    state_end_section(s);
}

static int load_forged(struct owners *owners, uint32_t count, uint32_t set_id)
{
    const struct share_options options = { .path = "test" };
    const struct identity root = { .ino = 1 };
    struct state saved, s;
    int error;

    owners_init(owners, &options);
    forge_owners(&saved, count, set_id);
    state_begin_load(&s, saved.bytes, saved.at);
    state_section(&s, "owners", 1);
    owners_state(owners, &root, &s);
    state_end_section(&s);
    error = state_finish(&s);
    state_finish(&saved);
    return error;
}

START_TEST(a_full_table_is_an_error)
{
    int fd = open(client_path(&c, "file"), O_RDONLY);
    struct owners owners;

    ck_assert_int_eq(load_forged(&owners, 2, 01000), -EINVAL); /* no set-ID bit */
    owners_finish(&owners);
    ck_assert_int_eq(load_forged(&owners, OWNERS_MAX, 0), 0);
    ck_assert_uint_eq(owners.count, OWNERS_MAX);
    ck_assert_int_eq(owners_set(&owners, fd, 77, 88), -ENOSPC);
    ck_assert_int_eq(owners_set(&owners, fd, 0, 0), 0);
    ck_assert(owners.told_full);
    owners_finish(&owners);
    close(fd);
}
END_TEST

/* The following hold for root, too. */

START_TEST(set_id_bits_stay_out_of_the_host)
{
    const uint32_t kill = FUSE_WRITE_KILL_SUIDGID;
    struct fuse_write_in in = { .size = 1, .write_flags = kill };
    uint64_t file = client_lookup(&c, ROOT, "file");

    ck_assert_int_eq(change_mode(file, 06755), 0);
    ck_assert_uint_eq(client_attr(&c)->mode, S_IFREG | 06755);
    ck_assert_uint_eq(host_stat("file").st_mode, S_IFREG | 0755);
    client_forget(&c, file, 1);
    file = client_lookup(&c, ROOT, "file");
    ck_assert_uint_eq(client_entry(&c)->attr.mode, S_IFREG | 06755);
    in.fh = client_open(&c, file, O_RDWR);
    ck_assert_int_eq(client_write(&c, file, in.fh, 0, "x"), 0); /* by root: kept */
    ck_assert_int_eq(client_getattr(&c, file), 0);
    ck_assert_uint_eq(client_attr(&c)->mode, S_IFREG | 06755);
    client_begin(&c, FUSE_WRITE, file);
    client_add(&c, &in, sizeof(in));
    client_add(&c, "x", 1);
    ck_assert_int_eq(client_send(&c), 0);
    ck_assert_int_eq(client_getattr(&c, file), 0);
    ck_assert_uint_eq(client_attr(&c)->mode, S_IFREG | 0755);
    ck_assert_int_eq(change_mode(file, 04711), 0);
    ck_assert_int_eq(
        client_setattr(&c, file, (struct fuse_setattr_in){ .valid = FATTR_UID, .uid = 0 }), 0);
    ck_assert_uint_eq(client_attr(&c)->mode, S_IFREG | 0711);
    ck_assert_int_eq(change_mode(file, 04711), 0);
    ck_assert_int_eq(change_mode(file, 0711), 0);
    ck_assert_uint_eq(client_attr(&c)->mode, S_IFREG | 0711);
    ck_assert_int_eq(make_node(0, 0, S_IFREG | 06755, 022, "new"), 0);
    ck_assert_uint_eq(client_entry(&c)->attr.mode, S_IFREG | 06755);
    ck_assert_uint_eq(host_stat("new").st_mode, S_IFREG | 0755);
}
END_TEST

/* Waits until files that exist are older than the clock says. Returns its time. */
static struct timespec later(void)
{
    struct timespec before, now;

    clock_gettime(CLOCK_REALTIME_COARSE, &before);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
    return now;
}

/*
 * A user of the host who may rename in the directory exchanges a new file for another one of ours,
 * to have that given away in its place.
 */
START_TEST(only_the_new_file_is_given_away)
{
    const struct share_options options = { .path = client_path(&c, ""), .writable = true };
    const struct share_user user = { .uid = 55, .gid = 66 };
    const char *const names[] = { "file", "folder", "pipe", "link" };
    cleanup_close int directory = open(client_path(&c, ""), O_RDONLY | O_DIRECTORY);
    struct owner_created created = { .directory = directory };
    struct owners owners;

    if (getuid() != 0)
        unit_skip("only root can give files away");
    ck_assert_int_eq(mknodat(directory, "pipe", S_IFIFO | 0600, 0), 0);
    ck_assert_int_eq(symlinkat("target", directory, "link"), 0);
    owners_init(&owners, &options);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        created.fd = -1;
        created.name = names[i];
        created.mode = host_stat(names[i]).st_mode;
        created.since = later();
        owners_created(&owners, &created, &user); /* by name: it is too old */
        ck_assert_uint_eq(host_stat(names[i]).st_uid, 0);

        created.fd = openat(directory, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);
        ck_assert_int_eq(renameat2(directory, "new", directory, names[i], RENAME_EXCHANGE), 0);
        created.name = "new";
        owners_created(&owners, &created, &user); /* by descriptor, wherever it is */
        ck_assert_uint_eq(host_stat("new").st_uid, 0);
        ck_assert_uint_eq(host_stat(names[i]).st_uid, 55);
        close(created.fd);
        ck_assert_int_eq(unlinkat(directory, "new", i == 1 ? AT_REMOVEDIR : 0), 0);
    }
    owners_finish(&owners);
}
END_TEST

/* Also if the host's root is not in the group, and so cannot keep the directory's bit. */
START_TEST(a_set_group_id_directory_gives_its_group)
{
    uint64_t folder = client_lookup(&c, ROOT, "folder"), made;

    if (getuid() != 0)
        unit_skip("only root can give files away");
    ck_assert_int_eq(change_owner(folder, 55, 66), 0);
    ck_assert_int_eq(change_mode(folder, 02775), 0);
    check_shown(folder, 55, 66, 02775);
    made = make_directory(77, 88, folder, "made");
    check_shown(made, 77, 66, 02755);
    ck_assert_uint_eq(host_stat("folder/made").st_gid, 66);
}
END_TEST

/* A set-ID program that the host has in the share. */
START_TEST(set_id_bits_of_the_host_are_cleared_by_a_write)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle;
    const struct fuse_open_in in = { .flags = O_WRONLY | O_TRUNC,
                                     .open_flags = FUSE_OPEN_KILL_SUIDGID };

    ck_assert_int_eq(chmod(client_path(&c, "file"), 06755), 0);
    handle = client_open(&c, file, O_WRONLY);
    ck_assert_int_eq(
        client_setattr(&c, file,
                       (struct fuse_setattr_in){
                           .valid = FATTR_SIZE | FATTR_FH | FATTR_KILL_SUIDGID, .fh = handle }),
        0);
    ck_assert_uint_eq(host_stat("file").st_mode, S_IFREG | 0755);
    ck_assert_int_eq(chmod(client_path(&c, "file"), 06755), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_OPEN, file, &in, sizeof(in), NULL, NULL), 0);
    ck_assert_uint_eq(host_stat("file").st_mode, S_IFREG | 0755);
}
END_TEST

START_TEST(pipes_and_sockets_are_created)
{
    const mode_t modes[] = { S_IFIFO, S_IFSOCK };
    const struct fuse_open_in in = { .flags = O_RDWR };

    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        ck_assert_int_eq(make_node(77, 88, modes[i] | 0666, 022, "special"), 0);
        ck_assert_uint_eq(client_entry(&c)->attr.mode, modes[i] | 0644);
        ck_assert_uint_eq(client_entry(&c)->attr.rdev, 0);
        check_shown(client_entry(&c)->nodeid, 77, 88, 0644);
        ck_assert_uint_eq(host_stat("special").st_mode, modes[i] | 0644);
        ck_assert_int_eq(client_ask(&c, FUSE_OPEN, client_lookup(&c, ROOT, "special"), &in,
                                    sizeof(in), NULL, NULL),
                         ENXIO);
        ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "special", NULL), 0);
    }
}
END_TEST

START_TEST(only_the_guests_umask_matters)
{
    const struct fuse_mkdir_in directory = { .mode = 0777, .umask = 002 };
    const struct fuse_create_in in = { .flags = O_RDWR, .mode = S_IFREG | 0666, .umask = 0 };

    ck_assert_int_eq(make_node(0, 0, S_IFREG | 0666, 0, "a"), 0);
    ck_assert_uint_eq(host_stat("a").st_mode, S_IFREG | 0666);
    ck_assert_int_eq(create_as(0, 0, FUSE_MKDIR, ROOT, &directory, sizeof(directory), "b"), 0);
    ck_assert_uint_eq(host_stat("b").st_mode, S_IFDIR | 0775);
    ck_assert_int_eq(create_as(0, 0, FUSE_CREATE, ROOT, &in, sizeof(in), "c"), 0);
    ck_assert_uint_eq(host_stat("c").st_mode, S_IFREG | 0666);
}
END_TEST

/* Extended attributes. */

static int set_xattr(uint64_t node, const char *name, const void *value, size_t size, uint32_t says)
{
    const struct fuse_setxattr_in in = { .size = says };

    client_begin(&c, FUSE_SETXATTR, node);
    client_add(&c, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
    client_add(&c, name, strlen(name) + 1);
    client_add(&c, value, size);
    return client_send(&c);
}

static int get_xattr(uint64_t node, const char *name, uint32_t size)
{
    const struct fuse_getxattr_in in = { .size = size };

    return client_ask(&c, FUSE_GETXATTR, node, &in, sizeof(in), name, NULL);
}

static int list_xattrs(uint64_t node, uint32_t size)
{
    const struct fuse_getxattr_in in = { .size = size };

    return client_ask(&c, FUSE_LISTXATTR, node, &in, sizeof(in), NULL, NULL);
}

/* A file system without them makes a test meaningless: says so. */
static bool host_has(const char *name, const void *value, size_t size)
{
    if (setxattr(client_path(&c, "folder"), name, value, size, 0) == 0)
        return removexattr(client_path(&c, "folder"), name) == 0;
    printf("# not checked: %s: %s: %s\n", c.path, name, strerror(errno));
    return false;
}

START_TEST(user_attributes_are_the_hosts)
{
    uint64_t file = client_lookup(&c, ROOT, "file");
    char value[8];

    if (!host_has("user.x", "x", 1))
        return;
    ck_assert_int_eq(get_xattr(file, "user.a", 0), ENODATA);
    ck_assert_int_eq(set_xattr(file, "user.a", "value", 5, 5), 0);
    ck_assert_int_eq(getxattr(client_path(&c, "file"), "user.a", value, sizeof(value)), 5);
    ck_assert_int_eq(get_xattr(file, "user.a", 0), 0);
    ck_assert_uint_eq(((struct fuse_getxattr_out *)(void *)c.reply.payload)->size, 5);
    ck_assert_int_eq(get_xattr(file, "user.a", 4), ERANGE);
    ck_assert_int_eq(get_xattr(file, "user.a", 60000), 0);
    ck_assert_uint_eq(client_got(&c), 5);
    ck_assert_mem_eq(c.reply.payload, "value", 5);
    ck_assert_int_eq(list_xattrs(file, 0), 0);
    ck_assert_uint_eq(((struct fuse_getxattr_out *)(void *)c.reply.payload)->size, 7);
    ck_assert_int_eq(list_xattrs(file, 6), ERANGE);
    ck_assert_int_eq(list_xattrs(file, 7), 0);
    ck_assert_mem_eq(c.reply.payload, "user.a", 7);
    ck_assert_int_eq(client_ask(&c, FUSE_REMOVEXATTR, file, NULL, 0, "user.a", NULL), 0);
    ck_assert_int_eq(list_xattrs(file, 100), 0);
    ck_assert_uint_eq(client_got(&c), 0);
}
END_TEST

START_TEST(other_attributes_are_hidden)
{
    const char *names[] = { "security.capability",
                            "trusted.overlay.opaque",
                            "user.",
                            "system.other",
                            "security.selinux",
                            "",
                            "user" };
    uint64_t file = client_lookup(&c, ROOT, "file"), link;

    setxattr(client_path(&c, "file"), "trusted.x", "x", 1, 0); /* if the test is run by root */
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        ck_assert_int_eq(get_xattr(file, names[i], 0), EOPNOTSUPP);
        ck_assert_int_eq(set_xattr(file, names[i], "x", 1, 1), EOPNOTSUPP);
        ck_assert_int_eq(client_ask(&c, FUSE_REMOVEXATTR, file, NULL, 0, names[i], NULL),
                         EOPNOTSUPP);
    }
    ck_assert_int_eq(list_xattrs(file, 1000), 0);
    ck_assert_uint_eq(client_got(&c), 0);
    ck_assert_int_eq(symlink("file", client_path(&c, "link")), 0);
    link = client_lookup(&c, ROOT, "link");
    ck_assert_int_eq(set_xattr(link, "user.a", "x", 1, 1), EOPNOTSUPP);
    ck_assert_int_eq(list_xattrs(link, 100), 0);
    ck_assert_uint_eq(client_got(&c), 0);
}
END_TEST

START_TEST(malformed_attributes_are_refused)
{
    uint64_t file = client_lookup(&c, ROOT, "file");
    static char large[66000];

    ck_assert_int_eq(set_xattr(file, "user.a", "value", 5, 6), EINVAL);
    ck_assert_int_eq(set_xattr(file, "user.a", "value", 5, 4), EINVAL);
    ck_assert_int_eq(set_xattr(file, "user.a", "", 0, UINT32_MAX), EINVAL);
    ck_assert_int_eq(set_xattr(file, "user.a", large, sizeof(large), sizeof(large)), E2BIG);
    ck_assert_int_eq(set_xattr(77, "user.a", "x", 1, 1), ESTALE);
    ck_assert_int_eq(list_xattrs(77, 0), ESTALE);
    client_begin(&c, FUSE_SETXATTR, file);
    client_add(&c, "\1\0\0\0\0\0\0\0user.a", 14); /* without its NUL */
    ck_assert_int_eq(client_send(&c), EINVAL);
}
END_TEST

struct acl {
    struct posix_acl_xattr_header header;
    struct posix_acl_xattr_entry entries[6];
};

/* User USER and group GROUP may read, nobody else. */
static const struct acl acl = { { 2 },
                                { { 0x01, 6, UINT32_MAX },
                                  { 0x02, 4, USER },
                                  { 0x04, 0, UINT32_MAX },
                                  { 0x08, 4, GROUP },
                                  { 0x10, 4, UINT32_MAX },
                                  { 0x20, 0, UINT32_MAX } } };

START_TEST(access_control_lists_have_the_same_users)
{
    const char *name = "system.posix_acl_access";
    uint64_t file = client_lookup(&c, ROOT, "file");
    struct acl guests = acl, hosts;

    if (!host_has(name, &acl, sizeof(acl)))
        return;
    guests.entries[1].e_id = guests.entries[3].e_id = 0; /* who are the process's */
    ck_assert_int_eq(set_xattr(file, name, &guests, sizeof(guests), sizeof(guests)), 0);
    ck_assert_int_eq(getxattr(client_path(&c, "file"), name, &hosts, sizeof(hosts)), sizeof(hosts));
    ck_assert_uint_eq(hosts.entries[1].e_id, getuid());
    ck_assert_uint_eq(hosts.entries[3].e_id, getgid());
    ck_assert_int_eq(get_xattr(file, name, 1000), 0);
    ck_assert_mem_eq(c.reply.payload, &guests, sizeof(guests));
    ck_assert_int_eq(set_xattr(file, name, &guests, 7, 7), EINVAL);
}
END_TEST

START_TEST(a_default_list_replaces_the_umask)
{
    const struct fuse_create_in in = { .flags = O_RDWR, .mode = S_IFREG | 0666, .umask = 077 };
    struct acl widest = acl;
    uint64_t folder = client_lookup(&c, ROOT, "folder");

    widest.entries[4].e_perm = 6;
    if (!host_has("system.posix_acl_default", &acl, sizeof(acl)))
        return;
    ck_assert_int_eq(
        set_xattr(folder, "system.posix_acl_default", &widest, sizeof(widest), sizeof(widest)), 0);
    ck_assert_int_eq(create_as(0, 0, FUSE_CREATE, folder, &in, sizeof(in), "new"), 0);
    ck_assert_uint_eq(client_entry(&c)->attr.mode, S_IFREG | 0660);
}
END_TEST

START_TEST(attributes_are_not_offered_everywhere)
{
    struct share_options options = { .path = client_path(&c, ""),
                                     .overlaid = true,
                                     .names_fd = -1 };
    uint64_t file;

    client_stop(&c);
    client_start(&c, client_path(&c, ""), false);
    file = client_lookup(&c, ROOT, "file");
    ck_assert_int_eq(set_xattr(file, "user.a", "x", 1, 1), EROFS);
    ck_assert_int_eq(list_xattrs(file, 0), 0);
    client_stop(&c);
    client_start_with(&c, &options);
    file = client_lookup(&c, ROOT, "file");
    ck_assert_int_eq(get_xattr(file, "user.a", 0), ENOSYS); /* Linux asks only once */
    ck_assert_int_eq(list_xattrs(file, 0), ENOSYS);
}
END_TEST

#if defined(__GLIBC__) && CONFINE /* sanitizers have an allocator of their own */
enum { TRAFFIC_FILES = 40 };

/* A new file with an owner that is remembered, which is written, renamed, read and listed. */
static void make_traffic(uint64_t directory, unsigned number)
{
    const struct fuse_create_in in = { .flags = O_RDWR, .mode = S_IFREG | 0644 };
    const struct fuse_open_out *opened =
        (const void *)(c.reply.payload + sizeof(struct fuse_entry_out));
    uint64_t node, writer, reader;
    char name[16], renamed[16];

    snprintf(name, sizeof(name), "new%u", number);
    snprintf(renamed, sizeof(renamed), "file%u", number);
    ck_assert_int_eq(create_as(0, 0, FUSE_CREATE, directory, &in, sizeof(in), name), 0);
    node = client_entry(&c)->nodeid;
    writer = opened->fh;
    ck_assert_int_eq(change_owner(node, 33, 34), 0);
    ck_assert_int_eq(client_write(&c, node, writer, 0, name), 0);
    ck_assert_int_eq(client_rename(&c, directory, name, directory, renamed), 0);
    reader = client_open(&c, node, O_RDONLY);
    ck_assert_int_eq(client_read(&c, FUSE_READ, node, reader, 0, 100), 0);
    ck_assert_int_eq(client_release(&c, node, reader), 0);
    ck_assert_int_eq(client_release(&c, node, writer), 0);
    ck_assert_int_eq(client_forget(&c, node, 1), 0);
}

/* Lists the directory, with a lookup of each entry, and forgets these. Returns their number. */
static unsigned list_and_forget(uint64_t directory)
{
    static uint64_t nodes[TRAFFIC_FILES];
    unsigned count = 0;
    uint64_t handle;

    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, directory, 0, &handle), 0);
    ck_assert_int_eq(client_read(&c, FUSE_READDIRPLUS, directory, handle, 0, 60000), 0);
    for (size_t at = 0; at < client_got(&c);) {
        const struct fuse_direntplus *entry = (const void *)(c.reply.payload + at);

        if (entry->entry_out.nodeid)
            nodes[count++] = entry->entry_out.nodeid;
        at += FUSE_DIRENTPLUS_SIZE(entry);
    }
    ck_assert_int_eq(client_release(&c, directory, handle), 0);
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(client_forget(&c, nodes[i], 1), 0);
    return count;
}

static void remove_traffic(uint64_t directory)
{
    char name[16];

    for (unsigned i = 0; i < TRAFFIC_FILES; i++) {
        snprintf(name, sizeof(name), "file%u", i);
        ck_assert_int_eq(client_ask(&c, FUSE_LOOKUP, directory, NULL, 0, "absent", NULL), 0);
        ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, directory, NULL, 0, name, NULL), 0);
    }
    ck_assert_int_eq(client_ask(&c, FUSE_RMDIR, ROOT, NULL, 0, "traffic", NULL), 0);
    ck_assert_int_eq(client_forget(&c, directory, 1), 0);
}
#endif

/* No round of a long run leaves anything behind. */
START_TEST(memory_stays_flat_under_traffic)
{
#if defined(__GLIBC__) && CONFINE
    enum { ROUNDS = 50 };
    size_t first = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t directory = make_directory(0, 0, ROOT, "traffic");

        for (unsigned i = 0; i < TRAFFIC_FILES; i++)
            make_traffic(directory, i);
        ck_assert_uint_eq(list_and_forget(directory), TRAFFIC_FILES);
        remove_traffic(directory);
        if (round == 0)
            first = mallinfo2().uordblks;
    }
    ck_assert_uint_lt(mallinfo2().uordblks, first + 20 * ROUNDS); /* blocks may be cut otherwise */
#else
    unit_skip("this build's allocator does not tell how much is in use");
#endif
}
END_TEST

static void add_tests(Suite *suite, const char *name, void (*setup)(void),
                      const TTest *const *tests, unsigned count)
{
    TCase *tcase = tcase_create(name);

    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (unsigned i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    Suite *suite = suite_create("fs_owner");
    const TTest *const ordinary[] = {
        files_of_the_user_are_roots,
        files_of_the_user_are_another_users,
        owners_that_the_host_refuses_are_remembered,
        other_users_files_are_not_given_away,
        new_files_belong_to_who_created_them,
        owners_are_forgotten_with_the_file,
        an_open_file_without_a_name_keeps_its_owner,
        owners_survive_a_load,
        a_full_table_is_an_error,
        memory_stays_flat_under_traffic,
        access_control_lists_have_the_same_users,
    };
    const TTest *const any[] = {
        set_id_bits_stay_out_of_the_host,      set_id_bits_of_the_host_are_cleared_by_a_write,
        pipes_and_sockets_are_created,         only_the_guests_umask_matters,
        only_the_new_file_is_given_away,       a_set_group_id_directory_gives_its_group,
        user_attributes_are_the_hosts,         other_attributes_are_hidden,
        malformed_attributes_are_refused,      a_default_list_replaces_the_umask,
        attributes_are_not_offered_everywhere,
    };

    add_tests(suite, "user", setup_user, ordinary, ARRAY_SIZE(ordinary));
    add_tests(suite, "as an ordinary user", setup_user, any, ARRAY_SIZE(any));
    add_tests(suite, "as any user", setup_any, any, ARRAY_SIZE(any));
    return unit_run(suite);
}
