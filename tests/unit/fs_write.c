/* SPDX-License-Identifier: MIT */

/* Requests that change a writable share, and attempts to write outside of it. */
#include <errno.h>
#include <linux/falloc.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "tests/unit/fuse_client.h"
#include "tests/unit/lease.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

#define ROOT FUSE_ROOT_ID

static struct client c;

static void setup(void)
{
    client_init(&c, true);
    client_write_file(&c, "file", "the file's text");
    ck_assert_int_eq(mkdir(client_path(&c, "folder"), 0755), 0);
    ck_assert_int_eq(symlink("../secret", client_path(&c, "link")), 0);
}

static void teardown(void)
{
    struct stat stat;

    strcpy(c.path, c.top);
    strcat(c.path, "/secret");
    ck_assert_int_eq(lstat(c.path, &stat), 0);
    ck_assert_int_eq(stat.st_size, 6);
    ck_assert_uint_eq(stat.st_mode, S_IFREG | 0644);
    client_finish(&c);
}

/* The host's st_mode of `name`; 0: no such file. */
static mode_t host_mode(const char *name)
{
    struct stat stat;

    return lstat(client_path(&c, name), &stat) < 0 ? 0 : stat.st_mode;
}

static void check_host_text(const char *name, const char *text)
{
    char buffer[64] = "";
    FILE *file = fopen(client_path(&c, name), "r");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(buffer, 1, sizeof(buffer) - 1, file), strlen(text));
    fclose(file);
    ck_assert_str_eq(buffer, text);
}

static int create(uint64_t parent, const char *name, uint32_t flags, uint64_t *ret_node,
                  uint64_t *ret_handle)
{
    const struct fuse_create_in in = { .flags = flags, .mode = S_IFREG | 0640 };
    int error = client_ask(&c, FUSE_CREATE, parent, &in, sizeof(in), name, NULL);
    const struct fuse_open_out *open =
        (const void *)(c.reply.payload + sizeof(struct fuse_entry_out));

    *ret_node = error ? 0 : client_entry(&c)->nodeid;
    *ret_handle = error ? 0 : open->fh;
    return error;
}

static int make_directory(uint64_t parent, const char *name)
{
    const struct fuse_mkdir_in in = { .mode = 0755 };

    return client_ask(&c, FUSE_MKDIR, parent, &in, sizeof(in), name, NULL);
}

START_TEST(create_write_read)
{
    uint64_t node, handle;

    ck_assert_int_eq(create(ROOT, "new", O_RDWR, &node, &handle), 0);
    ck_assert_int_eq(client_write(&c, node, handle, 0, "hello"), 0);
    ck_assert_int_eq(client_write(&c, node, handle, 5, " world"), 0);
    check_host_text("new", "hello world");
    ck_assert_uint_eq(host_mode("new"), S_IFREG | 0640);
    ck_assert_int_eq(client_read(&c, FUSE_READ, node, handle, 6, 100), 0);
    ck_assert_uint_eq(client_got(&c), 5);
    ck_assert_int_eq(client_release(&c, node, handle), 0);
    ck_assert_int_eq(create(ROOT, "new", O_RDWR | O_EXCL, &node, &handle), EEXIST);
    ck_assert_int_eq(create(ROOT, "new", O_RDWR, &node, &handle), 0);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "new"), node);
    ck_assert_int_eq(client_open_as(&c, FUSE_OPEN, node, O_RDWR | O_TRUNC, &handle), 0);
    check_host_text("new", "");
}
END_TEST

START_TEST(write_with_a_wrong_size_is_refused)
{
    struct fuse_write_in in = { .size = 1000 };
    uint64_t node = client_lookup(&c, ROOT, "file");
    uint64_t reader = client_open(&c, node, O_RDONLY);

    in.fh = client_open(&c, node, O_WRONLY);
    client_begin(&c, FUSE_WRITE, node);
    client_add(&c, &in, sizeof(in));
    client_add(&c, "short", 5);
    ck_assert_int_eq(client_send(&c), EINVAL);
    ck_assert_int_eq(client_write(&c, node, reader, 0, "x"), EBADF);
    ck_assert_int_eq(client_write(&c, node, in.fh, UINT64_MAX, "x"), EINVAL);
    ck_assert_int_eq(client_write(&c, node, in.fh, INT64_MAX, "xx"), EINVAL);
    ck_assert_int_eq(client_write(&c, ROOT, in.fh, 0, "x"), EBADF);
    check_host_text("file", "the file's text");
}
END_TEST

START_TEST(a_file_under_a_lease_is_opened_when_it_is_let_go)
{
    uint64_t node = client_lookup(&c, ROOT, "file"), handle;
    pid_t holder = lease_take(client_path(&c, "file"));

    ck_assert_int_eq(client_open_as(&c, FUSE_OPEN, node, O_RDONLY, &handle), 0);
    ck_assert_int_eq(waitpid(holder, NULL, 0), holder);
}
END_TEST

/* O_APPEND writes at the host's end of file, except for pages from the guest's page cache. */
START_TEST(append_goes_to_the_end)
{
    struct fuse_write_in in = { .size = 3, .write_flags = FUSE_WRITE_CACHE };
    uint64_t node = client_lookup(&c, ROOT, "file");

    in.fh = client_open(&c, node, O_WRONLY | O_APPEND);
    client_write_file(&c, "file", "12345");
    ck_assert_int_eq(client_write(&c, node, in.fh, 0, "67"), 0);
    check_host_text("file", "1234567");
    client_begin(&c, FUSE_WRITE, node);
    client_add(&c, &in, sizeof(in));
    client_add(&c, "abc", 3);
    ck_assert_int_eq(client_send(&c), 0);
    check_host_text("file", "abc4567");
}
END_TEST

START_TEST(invalid_names_are_refused)
{
    const char *names[] = { "", ".", "..", "a/b", "../evil", "/tmp/evil" };
    const struct fuse_mknod_in mknod_in = { .mode = S_IFREG | 0644 };
    const struct fuse_link_in link_in = { .oldnodeid = client_lookup(&c, ROOT, "file") };
    uint64_t node, handle;

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        ck_assert_int_ne(create(ROOT, names[i], O_RDWR, &node, &handle), 0);
        ck_assert_int_ne(make_directory(ROOT, names[i]), 0);
        ck_assert_int_ne(client_ask(&c, FUSE_SYMLINK, ROOT, NULL, 0, names[i], "x"), 0);
        ck_assert_int_ne(
            client_ask(&c, FUSE_MKNOD, ROOT, &mknod_in, sizeof(mknod_in), names[i], NULL), 0);
        ck_assert_int_ne(client_ask(&c, FUSE_LINK, ROOT, &link_in, sizeof(link_in), names[i], NULL),
                         0);
        ck_assert_int_ne(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, names[i], NULL), 0);
        ck_assert_int_ne(client_ask(&c, FUSE_RMDIR, ROOT, NULL, 0, names[i], NULL), 0);
        ck_assert_int_ne(client_rename2(&c, ROOT, names[i], ROOT, "new", 0), 0);
        ck_assert_int_ne(client_rename2(&c, ROOT, "file", ROOT, names[i], 0), 0);
    }
    ck_assert_uint_eq(host_mode("../evil"), 0);
    check_host_text("file", "the file's text");
}
END_TEST

START_TEST(links_out_of_the_share_are_not_written_through)
{
    uint64_t link = client_lookup(&c, ROOT, "link"), node, handle;

    ck_assert_int_ne(client_open_as(&c, FUSE_OPEN, link, O_WRONLY | O_TRUNC, NULL), 0);
    ck_assert_int_ne(create(ROOT, "link", O_WRONLY | O_TRUNC, &node, &handle), 0);
    ck_assert_int_ne(client_setattr(&c, link, (struct fuse_setattr_in){ .valid = FATTR_SIZE }), 0);
    ck_assert_int_eq(
        client_setattr(&c, link, (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 0777 }),
        EOPNOTSUPP);
    ck_assert_int_eq(
        client_setattr(&c, link, (struct fuse_setattr_in){ .valid = FATTR_MTIME, .mtime = 1 }), 0);
    ck_assert_uint_eq(client_attr(&c)->mtime, 1); /* of the link itself */
    ck_assert_int_eq(make_directory(link, "d"), ENOTDIR);
    ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "link", NULL), 0);
}
END_TEST

START_TEST(devices_are_not_created)
{
    const mode_t modes[] = { S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK, 0 };

    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        const struct fuse_mknod_in in = { .mode = modes[i] | 0666, .rdev = makedev(1, 1) };

        ck_assert_int_eq(client_ask(&c, FUSE_MKNOD, ROOT, &in, sizeof(in), "node", NULL), EPERM);
        ck_assert_uint_eq(host_mode("node"), 0);
    }
}
END_TEST

START_TEST(directories_and_names)
{
    const struct fuse_link_in link_in = { .oldnodeid = client_lookup(&c, ROOT, "file") };
    uint64_t file = link_in.oldnodeid, folder, inner;

    ck_assert_int_eq(make_directory(ROOT, "made"), 0);
    folder = client_entry(&c)->nodeid;
    ck_assert_int_eq(make_directory(ROOT, "made"), EEXIST);
    ck_assert_int_eq(client_ask(&c, FUSE_LINK, folder, &link_in, sizeof(link_in), "second", NULL),
                     0);
    ck_assert_uint_eq(client_entry(&c)->nodeid, file);
    ck_assert_uint_eq(client_entry(&c)->attr.nlink, 2);
    ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "file", NULL), 0);
    ck_assert_int_eq(client_getattr(&c, file), 0); /* has its other name */
    ck_assert_int_eq(make_directory(folder, "inner"), 0);
    inner = client_entry(&c)->nodeid;
    ck_assert_int_eq(client_ask(&c, FUSE_RMDIR, ROOT, NULL, 0, "made", NULL), ENOTEMPTY);
    ck_assert_int_eq(client_rename2(&c, ROOT, "made", inner, "loop", 0), EINVAL);
    ck_assert_int_eq(client_rename2(&c, ROOT, "made", ROOT, "moved", 0), 0);
    ck_assert_int_eq(client_getattr(&c, inner), 0); /* the node's path was updated */
    ck_assert_int_eq(client_getattr(&c, file), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_RMDIR, folder, NULL, 0, "inner", NULL), 0);
    ck_assert_int_eq(make_directory(inner, "x"), ENOENT);
    ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, folder, NULL, 0, "second", NULL), 0);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_uint_eq(host_mode("moved"), S_IFDIR | 0755);
}
END_TEST

START_TEST(rename_flags)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");

    ck_assert_int_eq(client_rename2(&c, ROOT, "file", ROOT, "folder", RENAME_NOREPLACE), EEXIST);
    ck_assert_int_eq(client_rename2(&c, ROOT, "file", ROOT, "white", RENAME_WHITEOUT), EINVAL);
    ck_assert_int_eq(client_rename2(&c, ROOT, "file", ROOT, "x", 0x80), EINVAL);
    ck_assert_int_eq(client_rename2(&c, ROOT, "file", ROOT, "folder", RENAME_EXCHANGE), 0);
    ck_assert(S_ISDIR(host_mode("file")));
    ck_assert(S_ISREG(host_mode("folder")));
    ck_assert_int_eq(client_getattr(&c, file), 0);
    ck_assert_int_eq(client_getattr(&c, folder), 0);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "file"), folder);
}
END_TEST

START_TEST(replaced_by_rename)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), node, handle;

    ck_assert_int_eq(create(ROOT, "new", O_RDWR, &node, &handle), 0);
    ck_assert_int_eq(client_rename2(&c, ROOT, "new", ROOT, "file", 0), 0);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "file"), node);
}
END_TEST

/* An open file without a name, as temporary files are used. */
START_TEST(unlinked_and_open)
{
    uint64_t node, handle;

    ck_assert_int_eq(create(ROOT, "temporary", O_RDWR, &node, &handle), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_UNLINK, ROOT, NULL, 0, "temporary", NULL), 0);
    ck_assert_int_eq(client_write(&c, node, handle, 0, "still"), 0);
    ck_assert_int_eq(client_getattr(&c, node), 0);
    ck_assert_uint_eq(client_attr(&c)->size, 5);
    ck_assert_uint_eq(client_attr(&c)->nlink, 0);
    ck_assert_int_eq(
        client_setattr(&c, node, (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = 2 }), 0);
    ck_assert_uint_eq(client_attr(&c)->size, 2);
    ck_assert_int_eq(client_release(&c, node, handle), 0);
    ck_assert_int_eq(client_getattr(&c, node), ESTALE);
}
END_TEST

START_TEST(attributes)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");
    const struct fuse_setattr_in times = {
        .valid = FATTR_ATIME | FATTR_MTIME, .atime = 1, .mtime = 2, .mtimensec = 3
    };

    ck_assert_int_eq(
        client_setattr(&c, file, (struct fuse_setattr_in){ .valid = FATTR_MODE, .mode = 0600 }), 0);
    ck_assert_uint_eq(client_attr(&c)->mode, S_IFREG | 0600);
    ck_assert_int_eq(
        client_setattr(&c, file, (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = 3 }), 0);
    check_host_text("file", "the");
    ck_assert_int_eq(client_setattr(&c, file,
                                    (struct fuse_setattr_in){ .valid = FATTR_SIZE | FATTR_FH,
                                                              .fh = client_open(&c, file, O_RDWR),
                                                              .size = 2 }),
                     0);
    check_host_text("file", "th");
    ck_assert_int_eq(
        client_setattr(&c, file,
                       (struct fuse_setattr_in){ .valid = FATTR_SIZE | FATTR_FH, .fh = 77 }),
        EBADF);
    ck_assert_int_eq(client_setattr(&c, file, times), 0);
    ck_assert_uint_eq(client_attr(&c)->atime, 1);
    ck_assert_uint_eq(client_attr(&c)->mtime, 2);
    ck_assert_uint_eq(client_attr(&c)->mtimensec, 3);
    ck_assert_int_eq(
        client_setattr(&c, file,
                       (struct fuse_setattr_in){ .valid = FATTR_MTIME | FATTR_MTIME_NOW }),
        0);
    ck_assert_uint_gt(client_attr(&c)->mtime, 1000);
    ck_assert_int_eq(client_setattr(&c, folder, (struct fuse_setattr_in){ .valid = FATTR_SIZE }),
                     EINVAL);
    ck_assert_int_eq(
        client_setattr(&c, file,
                       (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = UINT64_MAX }),
        EINVAL);
    ck_assert_int_eq(
        client_setattr(&c, file,
                       (struct fuse_setattr_in){ .valid = FATTR_MTIME, .mtimensec = UINT32_MAX }),
        EINVAL);
    ck_assert_int_eq(client_setattr(&c, file, (struct fuse_setattr_in){ .valid = 0 }), 0);
}
END_TEST

START_TEST(owners)
{
    const struct fuse_mkdir_in in = { .mode = 0755 };
    struct stat stat;

    client_begin(&c, FUSE_MKDIR, ROOT);
    ((struct fuse_in_header *)(void *)c.request)->uid = 1234;
    ((struct fuse_in_header *)(void *)c.request)->gid = 5678;
    client_add(&c, &in, sizeof(in));
    client_add(&c, "theirs", 7);
    ck_assert_int_eq(client_send(&c), 0);
    ck_assert_int_eq(lstat(client_path(&c, "theirs"), &stat), 0);
    ck_assert_uint_eq(stat.st_uid, getuid() ? getuid() : 1234);
    ck_assert_uint_eq(stat.st_gid, getuid() ? getgid() : 5678);
}
END_TEST

START_TEST(allocate_and_sync)
{
    uint64_t node = client_lookup(&c, ROOT, "file"), handle = client_open(&c, node, O_RDWR);
    struct fuse_fallocate_in in = { .fh = handle, .length = 100 };
    const struct fuse_fsync_in sync = { .fh = handle, .fsync_flags = 1 };

    ck_assert_int_eq(client_ask(&c, FUSE_FALLOCATE, node, &in, sizeof(in), NULL, NULL), 0);
    ck_assert_int_eq(client_getattr(&c, node), 0);
    ck_assert_uint_eq(client_attr(&c)->size, 100);
    in.mode = FALLOC_FL_COLLAPSE_RANGE;
    ck_assert_int_eq(client_ask(&c, FUSE_FALLOCATE, node, &in, sizeof(in), NULL, NULL), EOPNOTSUPP);
    in = (struct fuse_fallocate_in){ .fh = handle, .offset = UINT64_MAX, .length = UINT64_MAX };
    ck_assert_int_eq(client_ask(&c, FUSE_FALLOCATE, node, &in, sizeof(in), NULL, NULL), EINVAL);
    ck_assert_int_eq(client_ask(&c, FUSE_FSYNC, node, &sync, sizeof(sync), NULL, NULL), 0);
}
END_TEST

/* A directory that the host moved away may stay open, but its new parent is out of reach. */
START_TEST(directory_moved_out_of_the_share)
{
    uint64_t folder = client_lookup(&c, ROOT, "folder");
    char outside[128];

    strcpy(outside, client_path(&c, "../outside"));
    ck_assert_int_eq(rename(client_path(&c, "folder"), outside), 0);
    ck_assert_int_ne(client_ask(&c, FUSE_LOOKUP, folder, NULL, 0, "..", NULL), 0);
    ck_assert_int_ne(make_directory(folder, "x"), 0);
}
END_TEST

static int make_link(uint64_t parent, const char *name, const char *target)
{
    return client_ask(&c, FUSE_SYMLINK, parent, NULL, 0, name, target);
}

/* What people and programs of the host find there leads them nowhere else. */
START_TEST(a_guarded_share_holds_no_traps)
{
    const char *const out[] = { "/etc/passwd", "..", "../x",    "a/../../..", "up/../..",
                                "./../x",      "/",  "\033[2J", "\xc2\x9b[" };
    const char *const in[] = { "file", "a/b", "./a//b/", "a/..b", "...", "" };
    uint64_t folder, inner, link, node, handle;

    client_stop(&c);
    client_start_with(&c, &(struct share_options){
                              .path = client_path(&c, ""), .writable = true, .guarded = true });
    folder = client_lookup(&c, ROOT, "folder");
    for (unsigned i = 0; i < ARRAY_SIZE(out); i++)
        ck_assert_int_eq(make_link(ROOT, "trap", out[i]), EPERM);
    for (unsigned i = 0; i < ARRAY_SIZE(in); i++)
        ck_assert_int_ne(make_link(ROOT, i % 2 ? "good" : "fine", in[i]), EPERM);

    ck_assert_int_eq(make_link(folder, "up", "../file"), 0);
    ck_assert_int_eq(make_link(folder, "trap", "../../x"), EPERM);
    link = client_lookup(&c, folder, "up");
    ck_assert_int_eq(client_rename2(&c, folder, "up", ROOT, "trap", 0), EXDEV);
    ck_assert_int_eq(client_ask(&c, FUSE_LINK, ROOT, &link, sizeof(link), "trap", NULL), EPERM);
    ck_assert_int_eq(make_directory(folder, "inner"), 0);
    inner = client_entry(&c)->nodeid;
    ck_assert_int_eq(make_link(inner, "up", "../../file"), 0);
    ck_assert_int_eq(client_rename2(&c, folder, "inner", ROOT, "trap", 0), EXDEV);
    ck_assert_int_eq(client_rename2(&c, ROOT, "file", folder, "inner", RENAME_EXCHANGE), EXDEV);
    ck_assert_int_eq(client_rename2(&c, folder, "inner", folder, "renamed", 0), 0);
    ck_assert_int_eq(client_rename2(&c, ROOT, "file", inner, "file", 0), 0);
    ck_assert_int_eq(client_rename2(&c, inner, "file", ROOT, "file", 0), 0); /* files are no trap */

    ck_assert_int_eq(create(ROOT, "a\033[2J", O_RDWR, &node, &handle), EINVAL);
    ck_assert_int_eq(make_directory(ROOT, "a\nb"), EINVAL);
    ck_assert_int_eq(client_rename2(&c, ROOT, "file", ROOT, "a\tb", 0), EINVAL);
    ck_assert_int_eq(make_directory(ROOT, "\xc3\xa4"), 0);
}
END_TEST

/* The guest still knows the directory by its former place, where more ".." would be in order. */
START_TEST(a_guarded_share_knows_what_the_host_has_moved)
{
    uint64_t folder, inner;
    char moved[128];

    client_stop(&c);
    client_start_with(&c, &(struct share_options){
                              .path = client_path(&c, ""), .writable = true, .guarded = true });
    folder = client_lookup(&c, ROOT, "folder");
    ck_assert_int_eq(make_directory(folder, "inner"), 0);
    inner = client_entry(&c)->nodeid;
    ck_assert_int_eq(make_link(inner, "up", "../../file"), 0);
    ck_assert_int_eq(make_directory(inner, "innermost"), 0);
    strcpy(moved, client_path(&c, "moved"));
    ck_assert_int_eq(rename(client_path(&c, "folder/inner"), moved), 0);
    ck_assert_int_eq(make_link(inner, "trap", "../../file"), EPERM);
    ck_assert_int_eq(make_link(inner, "good", "../file"), 0);

    strcpy(moved, client_path(&c, "folder/inner"));
    ck_assert_int_eq(rename(client_path(&c, "moved"), moved), 0);
    ck_assert_int_eq(client_rename2(&c, inner, "innermost", ROOT, "trap", 0), EXDEV);
    strcpy(moved, client_path(&c, "../outside"));
    ck_assert_int_eq(rename(client_path(&c, "folder/inner"), moved), 0);
    ck_assert_int_ne(make_link(inner, "trap", "x"), 0);
    ck_assert_int_ne(client_rename2(&c, inner, "innermost", folder, "x", 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fs_write");
    TCase *tcase = tcase_create("fs_write");
    const TTest *const tests[] = {
        create_write_read,
        write_with_a_wrong_size_is_refused,
        append_goes_to_the_end,
        a_file_under_a_lease_is_opened_when_it_is_let_go,
        invalid_names_are_refused,
        links_out_of_the_share_are_not_written_through,
        devices_are_not_created,
        directories_and_names,
        rename_flags,
        replaced_by_rename,
        unlinked_and_open,
        attributes,
        owners,
        allocate_and_sync,
        directory_moved_out_of_the_share,
        a_guarded_share_holds_no_traps,
        a_guarded_share_knows_what_the_host_has_moved,
    };

    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
