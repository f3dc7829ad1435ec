/* SPDX-License-Identifier: MIT */

/* Requests for a read-only share, valid and hostile. */
#include <errno.h>
#include <malloc.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include "settings.h"
#include "tests/unit/fuse_client.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"

#define ROOT FUSE_ROOT_ID

static struct client c;

static void setup(void)
{
    client_init(&c, false);
    client_write_file(&c, "file", "the file's text");
    ck_assert_int_eq(mkdir(client_path(&c, "folder"), 0755), 0);
    client_write_file(&c, "folder/inner", "inner");
    ck_assert_int_eq(symlink("../secret", client_path(&c, "link")), 0);
    ck_assert_int_eq(symlink("..", client_path(&c, "folder/up")), 0);
    ck_assert_int_eq(mkfifo(client_path(&c, "pipe"), 0644), 0);
}

static void teardown(void)
{
    client_finish(&c);
}

static int send_init(uint32_t major, uint32_t minor)
{
    const struct fuse_init_in in = { .major = major, .minor = minor, .flags = ~0u };

    return client_ask(&c, FUSE_INIT, 0, &in, sizeof(in), NULL, NULL);
}

START_TEST(init)
{
    const struct fuse_init_out *out = (const void *)c.reply.payload;

    ck_assert_int_eq(send_init(7, 31), 0);
    ck_assert_uint_eq(client_got(&c), sizeof(*out));
    ck_assert_uint_eq(out->major, 7);
    ck_assert_uint_eq(out->flags & (FUSE_EXPORT_SUPPORT | FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS |
                                    FUSE_HANDLE_KILLPRIV),
                      0);
    ck_assert_uint_ne(out->flags & FUSE_DO_READDIRPLUS, 0);
    ck_assert_int_eq(send_init(7, 30), EPROTO);
    ck_assert_int_eq(send_init(6, 99), EPROTO);
    ck_assert_int_eq(send_init(8, 0), 0); /* the guest then retries with our version */
    ck_assert_uint_eq(out->major, 7);
}
END_TEST

START_TEST(lookup_and_getattr)
{
    uint64_t node = client_lookup(&c, ROOT, "file");
    struct stat stat;

    ck_assert_int_eq(lstat(client_path(&c, "file"), &stat), 0);
    ck_assert_int_eq(client_getattr(&c, node), 0);
    ck_assert_uint_eq(client_attr(&c)->ino, stat.st_ino);
    ck_assert_uint_eq(client_attr(&c)->size, 15);
    ck_assert_uint_eq(client_attr(&c)->mode, stat.st_mode);
    ck_assert_uint_eq(client_attr(&c)->mtimensec, (uint64_t)stat.st_mtim.tv_nsec);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "file"), node);
    ck_assert_uint_ne(client_lookup(&c, ROOT, "folder"), node);
    ck_assert_uint_eq(client_lookup(&c, client_lookup(&c, ROOT, "folder"), "inner"),
                      client_lookup(&c, client_lookup(&c, ROOT, "folder"), "inner"));
}
END_TEST

/* A negative entry, node 0, which the guest may cache. */
START_TEST(lookup_of_nothing)
{
    ck_assert_int_eq(client_ask(&c, FUSE_LOOKUP, ROOT, NULL, 0, "nothing", NULL), 0);
    ck_assert_uint_eq(client_entry(&c)->nodeid, 0);
    ck_assert_uint_gt(client_entry(&c)->entry_valid, 0);
}
END_TEST

START_TEST(hard_links_are_one_node)
{
    char second[128];

    strcpy(second, client_path(&c, "second"));
    ck_assert_int_eq(link(client_path(&c, "file"), second), 0);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "file"), client_lookup(&c, ROOT, "second"));
}
END_TEST

/* The guest's kernel allows a directory only one parent. */
START_TEST(a_directory_mounted_twice_has_two_nodes)
{
    struct client fresh = { .top = "" };
    uint64_t folder, again;
    char second[128];

    strcpy(second, client_path(&c, "second"));
    ck_assert_int_eq(mkdir(second, 0755), 0);
    if (!tree_own_mounts())
        unit_skip(TREE_NO_MOUNTS);
    ck_assert_int_eq(mount(client_path(&c, "folder"), second, NULL, MS_BIND, NULL), 0);
    client_start(&fresh, client_path(&c, ""), false);
    folder = client_lookup(&fresh, ROOT, "folder");
    again = client_lookup(&fresh, ROOT, "second");
    ck_assert_uint_ne(again, folder);
    client_lookup(&fresh, again, "inner");
    ck_assert_uint_eq(client_lookup(&fresh, ROOT, "folder"), folder);
    client_finish(&fresh);
    umount(second);
}
END_TEST

START_TEST(invalid_names_are_refused)
{
    static char long_name[300];
    const char *names[] = { "",          ".",  "..",     "/", "/etc/passwd", "folder/inner",
                            "../secret", "x/", long_name };
    uint64_t folder = client_lookup(&c, ROOT, "folder");

    memset(long_name, 'n', sizeof(long_name) - 1);
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        ck_assert_int_ne(client_ask(&c, FUSE_LOOKUP, ROOT, NULL, 0, names[i], NULL), 0);
        ck_assert_int_ne(client_ask(&c, FUSE_LOOKUP, folder, NULL, 0, names[i], NULL), 0);
    }
    client_begin(&c, FUSE_LOOKUP, ROOT); /* not terminated */
    client_add(&c, "file", 4);
    ck_assert_int_eq(client_send(&c), EINVAL);
    client_begin(&c, FUSE_LOOKUP, ROOT); /* bytes after the name */
    client_add(&c, "file\0more", 10);
    ck_assert_int_eq(client_send(&c), EINVAL);
    client_begin(&c, FUSE_LOOKUP, ROOT); /* no name */
    ck_assert_int_eq(client_send(&c), EINVAL);
}
END_TEST

START_TEST(forged_node_ids_are_stale)
{
    uint64_t folder = client_lookup(&c, ROOT, "folder");
    const uint64_t nodes[] = { 0,          folder + 1, 1000,           ROOT | 1ull << 32,
                               UINT32_MAX, UINT64_MAX, UINT64_MAX / 2, folder | 1ull << 63 };

    for (unsigned i = 0; i < ARRAY_SIZE(nodes); i++) {
        ck_assert_int_eq(client_getattr(&c, nodes[i]), ESTALE);
        ck_assert_int_eq(client_ask(&c, FUSE_LOOKUP, nodes[i], NULL, 0, "file", NULL), ESTALE);
        ck_assert_int_eq(client_ask(&c, FUSE_READLINK, nodes[i], NULL, 0, NULL, NULL), ESTALE);
        ck_assert_int_eq(client_ask(&c, FUSE_STATFS, nodes[i], NULL, 0, NULL, NULL), ESTALE);
        ck_assert_int_eq(client_open_as(&c, FUSE_OPEN, nodes[i], 0, NULL), ESTALE);
        ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, nodes[i], 0, NULL), ESTALE);
        client_forget(&c, nodes[i], UINT64_MAX);
    }
    ck_assert_int_eq(client_getattr(&c, folder), 0);
}
END_TEST

START_TEST(forgotten_node_ids_are_stale)
{
    uint64_t folder = client_lookup(&c, ROOT, "folder");
    uint64_t inner = client_lookup(&c, folder, "inner");

    client_lookup(&c, ROOT, "folder");
    client_forget(&c, folder, 1); /* of two */
    ck_assert_int_eq(client_getattr(&c, folder), 0);
    client_forget(&c, folder, 1000); /* more than there were; the child stays */
    ck_assert_int_eq(client_getattr(&c, folder), ESTALE);
    ck_assert_int_eq(client_getattr(&c, inner), 0);
    client_forget(&c, folder, 1);
    client_forget(&c, inner, 1);
    client_forget(&c, inner, 1);
    ck_assert_int_eq(client_getattr(&c, inner), ESTALE);
    for (unsigned i = 0; i < 10; i++) { /* slots are reused, ids are not */
        uint64_t again = client_lookup(&c, ROOT, "folder");

        ck_assert_uint_ne(again, folder);
        ck_assert_uint_ne(again, inner);
        client_forget(&c, again, 1);
    }
    client_forget(&c, ROOT, UINT64_MAX);
    ck_assert_int_eq(client_getattr(&c, ROOT), 0);
}
END_TEST

START_TEST(batch_forget)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");
    const struct fuse_forget_one ones[] = { { file, 1 }, { 12345, 1 }, { folder, 1 } };
    const struct fuse_batch_forget_in in = {
        .count = UINT32_MAX
    }; /* more than the three in the request */

    client_begin(&c, FUSE_BATCH_FORGET, 0);
    client_add(&c, &in, sizeof(in));
    client_add(&c, ones, sizeof(ones));
    ck_assert_int_eq(client_send(&c), 0);
    ck_assert_uint_eq(c.replied, 0);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_int_eq(client_getattr(&c, folder), ESTALE);
}
END_TEST

START_TEST(links_are_read_and_not_followed)
{
    uint64_t link = client_lookup(&c, ROOT, "link");
    uint64_t up = client_lookup(&c, client_lookup(&c, ROOT, "folder"), "up");

    ck_assert_int_eq(client_ask(&c, FUSE_READLINK, link, NULL, 0, NULL, NULL), 0);
    ck_assert_uint_eq(client_got(&c), 9);
    ck_assert_mem_eq(c.reply.payload, "../secret", 9);
    ck_assert_int_ne(client_open_as(&c, FUSE_OPEN, link, O_RDONLY, NULL), 0);
    ck_assert_int_ne(client_open_as(&c, FUSE_OPENDIR, up, 0, NULL), 0);
    ck_assert_int_eq(client_ask(&c, FUSE_LOOKUP, up, NULL, 0, "secret", NULL), ENOTDIR);
    ck_assert_int_eq(client_ask(&c, FUSE_LOOKUP, up, NULL, 0, "file", NULL), ENOTDIR);
    ck_assert_int_eq(
        client_ask(&c, FUSE_READLINK, client_lookup(&c, ROOT, "file"), NULL, 0, NULL, NULL),
        EINVAL);
    c.room = sizeof(struct fuse_out_header) + 3; /* shorter than the target */
    ck_assert_int_eq(client_ask(&c, FUSE_READLINK, link, NULL, 0, NULL, NULL), EINVAL);
}
END_TEST

/* The host replaces a directory by a link out of the share. */
START_TEST(directory_replaced_by_a_link_is_stale)
{
    uint64_t folder = client_lookup(&c, ROOT, "folder"), inner;
    char moved[128];

    inner = client_lookup(&c, folder, "inner");
    fuse_reset(c.fuse); /* closes the cached descriptor of the directory */
    folder = client_lookup(&c, ROOT, "folder");
    strcpy(moved, client_path(&c, "moved"));
    ck_assert_int_eq(rename(client_path(&c, "folder"), moved), 0);
    ck_assert_int_eq(symlink("..", client_path(&c, "folder")), 0);
    ck_assert_int_eq(client_getattr(&c, inner), ESTALE);
    ck_assert_int_eq(client_ask(&c, FUSE_LOOKUP, folder, NULL, 0, "secret", NULL), ESTALE);
    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, folder, 0, NULL), ESTALE);
    ck_assert_int_eq(client_getattr(&c, folder), ESTALE);
    ck_assert_uint_eq(client_lookup(&c, ROOT, "moved"), folder); /* same file, same node */
    client_lookup(&c, folder, "inner");
}
END_TEST

START_TEST(replaced_file_is_stale_when_closed)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);
    char other[128];

    client_write_file(&c, "other", "other");
    strcpy(other, client_path(&c, "other"));
    ck_assert_int_eq(rename(other, client_path(&c, "file")), 0);
    ck_assert_int_eq(client_getattr(&c, file), 0); /* still open */
    ck_assert_uint_eq(client_attr(&c)->size, 15);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 100), 0);
    ck_assert_uint_eq(client_got(&c), 15);
    client_release(&c, file, handle);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_int_eq(client_open_as(&c, FUSE_OPEN, file, O_RDONLY, NULL), ESTALE);
    ck_assert_uint_ne(client_lookup(&c, ROOT, "file"), file);
}
END_TEST

/* By stale names, a is in b and b in a: one needs a new node, to prevent a cycle. */
START_TEST(directories_that_swap_parents)
{
    char a[128], b[128];
    uint64_t node_a, node_b, again;

    ck_assert_int_eq(mkdir(client_path(&c, "a"), 0755), 0);
    ck_assert_int_eq(mkdir(client_path(&c, "a/b"), 0755), 0);
    node_a = client_lookup(&c, ROOT, "a");
    node_b = client_lookup(&c, node_a, "b");
    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, node_b, 0, NULL), 0);
    strcpy(a, client_path(&c, "a/b"));
    ck_assert_int_eq(rename(a, client_path(&c, "b")), 0);
    strcpy(a, client_path(&c, "a"));
    strcpy(b, client_path(&c, "b/a"));
    ck_assert_int_eq(rename(a, b), 0);
    again = client_lookup(&c, node_b, "a");
    ck_assert_uint_ne(again, node_a);
    ck_assert_int_eq(client_getattr(&c, again), 0);
    client_forget(&c, node_a, 1);
    client_forget(&c, again, 1);
    client_forget(&c, node_b, 1);
    ck_assert_int_eq(client_getattr(&c, ROOT), 0);
}
END_TEST

START_TEST(forged_handles_are_refused)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), folder = client_lookup(&c, ROOT, "folder");
    uint64_t handle = client_open(&c, file, O_RDONLY), directory;
    const uint64_t forged[] = { 0, handle + 1, handle | 1ull << 32, UINT32_MAX, UINT64_MAX, 3 };

    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, folder, 0, &directory), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(forged); i++) {
        ck_assert_int_eq(client_read(&c, FUSE_READ, file, forged[i], 0, 10), EBADF);
        ck_assert_int_eq(client_read(&c, FUSE_READDIR, folder, forged[i] + 7, 0, 4096), EBADF);
        ck_assert_int_eq(client_release(&c, file, forged[i]), EBADF);
    }
    ck_assert_int_eq(client_read(&c, FUSE_READ, folder, handle, 0, 10),
                     EBADF); /* of another node */
    ck_assert_int_eq(client_read(&c, FUSE_READ, folder, directory, 0, 10), EISDIR);
    ck_assert_int_eq(client_read(&c, FUSE_READDIR, file, handle, 0, 4096), ENOTDIR);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 4, 6), 0);
    ck_assert_mem_eq(c.reply.payload, "file's", 6);
    ck_assert_int_eq(client_release(&c, file, handle), 0);
    ck_assert_int_eq(client_release(&c, file, handle), EBADF);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 10), EBADF);
}
END_TEST

/* A node is freed only after its last handle was closed. */
START_TEST(forgotten_file_stays_readable_while_open)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);

    client_forget(&c, file, 1);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 3), 0);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_int_eq(client_release(&c, file, handle), 0);
    ck_assert_int_eq(client_release(&c, file, handle), EBADF);
}
END_TEST

START_TEST(offsets_and_lengths)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);
    const uint64_t offsets[] = { 15, 1u << 30, INT64_MAX - 4096 };
    const struct fuse_lseek_in seek = { .fh = handle, .whence = SEEK_END };

    for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
        ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, offsets[i], 100), 0);
        ck_assert_uint_eq(client_got(&c), 0);
    }
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, UINT64_MAX, 100), EINVAL);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 1ull << 63, 100), EINVAL);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 1u << 20), 0);
    ck_assert_uint_eq(client_got(&c), 15);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 0), 0);
    ck_assert_uint_eq(client_got(&c), 0);
    c.room = sizeof(struct fuse_out_header) + 5; /* a buffer shorter than requested */
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 100), 0);
    ck_assert_uint_eq(client_got(&c), 5);
    ck_assert_uint_eq(c.reply.payload[5], 0x55);
    c.room = sizeof(c.reply);
    ck_assert_int_eq(client_ask(&c, FUSE_LSEEK, file, &seek, sizeof(seek), NULL, NULL), EINVAL);
    c.header_len = 17; /* not the request's length */
    ck_assert_int_eq(client_getattr(&c, file), EINVAL);
}
END_TEST

/* Every operation with requests and reply buffers of every length. */
START_TEST(truncated_requests_and_replies)
{
    static const uint8_t zeroes[160];
    uint64_t file = client_lookup(&c, ROOT, "file");

    for (uint32_t opcode = 0; opcode < 60; opcode++) {
        if (opcode == FUSE_INIT || opcode == FUSE_DESTROY)
            continue;
        for (size_t size = 0; size <= sizeof(zeroes); size++) {
            client_begin(&c, opcode, file);
            c.request_size = 0;
            client_begin(&c, opcode, file);
            client_add(&c, zeroes, size);
            c.room = sizeof(c.reply);
            client_send(&c);
            c.room = size;
            client_send(&c);
            ck_assert(size >= sizeof(struct fuse_out_header) || c.replied == 0);
        }
    }
    c.room = sizeof(c.reply);
    c.request_size = 12; /* not even a header */
    client_send(&c);
    ck_assert_uint_eq(c.replied, 0);
    client_forget(&c, file, 1);
    file = client_lookup(&c, ROOT, "file");
    ck_assert_int_eq(client_getattr(&c, file), 0);
}
END_TEST

START_TEST(unknown_operations)
{
    const uint32_t opcodes[] = { 0,           7,          19,         FUSE_FLUSH,
                                 FUSE_ACCESS, FUSE_IOCTL, FUSE_GETLK, FUSE_SETUPMAPPING,
                                 53,          1000,       4096,       UINT32_MAX };

    for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++)
        ck_assert_int_eq(client_ask(&c, opcodes[i], ROOT, "01234567", 8, NULL, NULL), ENOSYS);
}
END_TEST

/* The guest's kernel handles opens of these; requests for it are refused. */
START_TEST(pipes_and_devices_are_not_opened)
{
    uint64_t pipe = client_lookup(&c, ROOT, "pipe");

    ck_assert(S_ISFIFO(client_entry(&c)->attr.mode));
    for (uint32_t flags = 0; flags < 3; flags++)
        ck_assert_int_ne(client_open_as(&c, FUSE_OPEN, pipe, flags, NULL), 0);
    ck_assert_int_ne(client_open_as(&c, FUSE_OPENDIR, pipe, 0, NULL), 0);
    if (mknod(client_path(&c, "device"), S_IFCHR | 0666, makedev(1, 5)) == 0) {
        uint64_t device = client_lookup(&c, ROOT, "device");

        ck_assert_uint_eq(client_entry(&c)->attr.rdev, 1 << 8 | 5);
        ck_assert_int_ne(client_open_as(&c, FUSE_OPEN, device, O_RDONLY, NULL), 0);
    }
}
END_TEST

START_TEST(read_only_share_refuses_open_for_writing)
{
    uint64_t file = client_lookup(&c, ROOT, "file");
    const uint32_t flags[] = { O_WRONLY, O_RDWR, O_TRUNC, O_RDWR | O_TRUNC, O_ACCMODE };

    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        ck_assert_int_eq(client_open_as(&c, FUSE_OPEN, file, flags[i], NULL), EROFS);
    /* Flags that a guest may not set are ignored. */
    client_open(&c, file, O_CREAT | O_EXCL | O_DIRECTORY | O_PATH | O_APPEND | O_NOATIME);
    ck_assert_int_eq(client_write(&c, file, 1, 0, "x"), EROFS);
    ck_assert_int_eq(client_getattr(&c, file), 0);
    ck_assert_uint_eq(client_attr(&c)->size, 15);
}
END_TEST

START_TEST(read_only_share_refuses_all_changes)
{
    const uint32_t opcodes[] = { FUSE_SETATTR, FUSE_SYMLINK, FUSE_MKNOD,   FUSE_MKDIR,
                                 FUSE_UNLINK,  FUSE_RMDIR,   FUSE_RENAME,  FUSE_LINK,
                                 FUSE_WRITE,   FUSE_CREATE,  FUSE_RENAME2, FUSE_FALLOCATE };
    static const uint8_t zeroes[160];

    for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++)
        for (size_t size = 0; size <= sizeof(zeroes); size++)
            ck_assert_int_eq(client_ask(&c, opcodes[i], ROOT, zeroes, size, "file", "other"),
                             EROFS);
}
END_TEST

/* They contain files such as /proc/self/mem. */
START_TEST(pseudo_filesystems_are_hidden)
{
    struct client whole = { .top = "" };
    uint64_t proc;

    client_start(&whole, "/", false);
    proc = client_lookup(&whole, ROOT, "proc");
    ck_assert(S_ISDIR(client_entry(&whole)->attr.mode));
    ck_assert_int_eq(client_getattr(&whole, proc), 0);
    ck_assert_int_eq(client_ask(&whole, FUSE_LOOKUP, proc, NULL, 0, "self", NULL), EACCES);
    ck_assert_int_eq(client_open_as(&whole, FUSE_OPENDIR, proc, 0, NULL), EACCES);
    ck_assert_int_eq(client_ask(&whole, FUSE_STATFS, proc, NULL, 0, NULL, NULL), EACCES);
    client_finish(&whole);
}
END_TEST

START_TEST(invalid_directories_are_refused)
{
    const char *paths[] = { "/proc",        "/proc/self/fd", "/sys",
                            "/nonexistent", "/dev/null",     "/etc/passwd" };
    struct share *share;

    for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
        const struct share_options options = { .path = paths[i] };

        ck_assert_int_lt(share_open(&share, &options, &c.budget, c.loop), 0);
    }
}
END_TEST

/* The message must not blame a missing openat2(). */
START_TEST(directory_without_permission_is_refused)
{
    const struct share_options options = { .path = client_path(&c, "folder") };
    struct share *share;
    char said[256] = "";
    FILE *errors = tmpfile();

    ck_assert_int_eq(chmod(c.top, 0755), 0);
    ck_assert_int_eq(chmod(options.path, 0), 0);
    if (geteuid() == 0 && seteuid(65534) < 0)
        unit_skip("root of a user namespace without another user");
    dup2(fileno(errors), STDERR_FILENO);
    ck_assert_int_eq(share_open(&share, &options, &c.budget, c.loop), -EACCES);
    ck_assert_int_gt(pread(STDERR_FILENO, said, sizeof(said) - 1, 0), 0);
    ck_assert_ptr_nonnull(strstr(said, "folder: Permission denied\n"));
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(chmod(options.path, 0755), 0);
}
END_TEST

/* Together with the nodes, by the guest's memory. */
START_TEST(handles_are_limited)
{
    static struct client small;
    unsigned opened = 0;
    uint64_t file, handle = 0;
    int error;

    client_init(&small, false);
    client_write_file(&small, "file", "text");
    small.budget.objects.max = small.budget.objects.used + 100;
    file = client_lookup(&small, ROOT, "file");
    while (!(error = client_open_as(&small, FUSE_OPEN, file, O_RDONLY, &handle)))
        opened++;
    ck_assert_int_eq(error, ENFILE);
    ck_assert_uint_eq(opened, 99);
    ck_assert_int_eq(client_release(&small, file, handle), 0);
    ck_assert_int_eq(client_open_as(&small, FUSE_OPEN, file, O_RDONLY, &handle), 0);
    client_finish(&small);
}
END_TEST

/* A guest that holds as much as it can must not cost the host more than a part of its memory. */
START_TEST(memory_of_nodes_is_bounded)
{
#if defined(__GLIBC__) && CONFINE /* sanitizers have an allocator of their own */
    enum { FILES = 3000 };
    static uint64_t nodes[FILES];
    char name[40];
    size_t before, used;

    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "a-name-of-usual-length-%u", i);
        client_write_file(&c, name, "");
    }
    client_lookup(&c, ROOT, "folder");
    before = mallinfo2().uordblks;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < FILES; i++) {
            snprintf(name, sizeof(name), "a-name-of-usual-length-%u", i);
            nodes[i] = client_lookup(&c, ROOT, name);
        }
        used = mallinfo2().uordblks - before;
        ck_assert_uint_lt(used / FILES, 400);
        for (unsigned i = 0; i < FILES; i++)
            client_forget(&c, nodes[i], 1);
        ck_assert_uint_lt(mallinfo2().uordblks - before, used / 3); /* tables stay */
    }
#else
    unit_skip("this build's allocator does not tell how much is in use");
#endif
}
END_TEST

/* A guest can look up as many files as its memory can hold, and no more. */
START_TEST(nodes_are_limited_by_the_guests_memory)
{
    static struct client small;
    char name[32];
    int error = 0;
    unsigned i;

    client_init(&small, false);
    ck_assert_uint_ge(small.budget.objects.max, 1u << 20); /* of 1 GiB */
    small.budget.objects.max = 200;
    for (i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        client_write_file(&small, name, "");
    }
    for (i = 0; !error; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        error = client_ask(&small, FUSE_LOOKUP, ROOT, NULL, 0, name, NULL);
    }
    ck_assert_int_eq(error, ENFILE);
    ck_assert_uint_eq(i, 200); /* the root is one, the last lookup failed */
    ck_assert_uint_eq(client_lookup(&small, ROOT, "f7"), 9); /* one that it has already */
    client_forget(&small, 9, 2);
    client_lookup(&small, ROOT, "f299");
    client_finish(&small);
}
END_TEST

static unsigned count_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Uses all descriptors a guest can: cached directories, and open ones. */
static void use_all_descriptors(struct client *greedy, unsigned directories)
{
    char name[32];

    for (unsigned i = 0; i < directories; i++) {
        snprintf(name, sizeof(name), "d%u", i);
        client_ask(greedy, FUSE_LOOKUP, client_lookup(greedy, ROOT, name), NULL, 0, "x", NULL);
    }
    for (unsigned i = 0; i < 150; i++) /* more than there are: others are closed for them */
        ck_assert_int_eq(client_open_as(greedy, FUSE_OPENDIR, ROOT, O_RDONLY, NULL), 0);
}

START_TEST(shares_leave_descriptors_to_each_other)
{
    enum { DIRECTORIES = 100, SHARES = 7 };
    static struct client shares[SHARES];
    struct rlimit limit = { 256, 256 };
    unsigned before = count_descriptors();
    char name[32];

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (unsigned i = 0; i < DIRECTORIES; i++) {
        snprintf(name, sizeof(name), "d%u", i);
        ck_assert_int_eq(mkdir(client_path(&c, name), 0755), 0);
    }
    for (unsigned i = 0; i < SHARES; i++) {
        shares[i].others = SHARES - 1;
        shares[i].joint = i > 0 ? &shares[0].budget : NULL;
        client_start(&shares[i], client_path(&c, ""), false);
    }
    for (unsigned i = 0; i < SHARES; i++)
        use_all_descriptors(&shares[i], DIRECTORIES);
    ck_assert_uint_ge(count_descriptors(), before + 150);
    ck_assert_uint_le(count_descriptors(), before + 192 + 4 * SHARES);
    client_lookup(&shares[0], client_lookup(&shares[0], ROOT, "folder"), "inner");
    for (unsigned i = SHARES; i-- > 0;)
        client_finish(&shares[i]);
    ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

START_TEST(too_many_shares_are_refused)
{
    struct rlimit limit = { 256, 256 };
    struct share_budget budget;

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(budget_init(&budget, 1u << 30, 12), 0);
    ck_assert_int_eq(budget_init(&budget, 1u << 30, 13), -EMFILE);
}
END_TEST

/* One that keeps many files open leaves a few descriptors to the others. */
START_TEST(each_share_can_open_files)
{
    static struct client greedy, modest;
    struct rlimit limit = { 128, 128 };
    uint64_t node;

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    greedy.others = modest.others = 1;
    client_start(&greedy, client_path(&c, ""), false);
    modest.joint = &greedy.budget;
    client_start(&modest, client_path(&c, ""), true);
    for (unsigned i = 0; i < 150; i++)
        ck_assert_int_eq(client_open_as(&greedy, FUSE_OPENDIR, ROOT, 0, NULL), 0);
    node = client_lookup(&modest, ROOT, "file");
    client_open(&modest, node, O_RDONLY);
    client_open(&modest, node, O_RDWR);
    client_finish(&modest);
    client_finish(&greedy);
}
END_TEST

START_TEST(the_soft_limit_of_descriptors_is_raised)
{
    struct rlimit limit = { 64, 1024 };
    struct share_budget budget;

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(budget_init(&budget, 1u << 30, 1), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(limit.rlim_cur, 1024);
    ck_assert_uint_gt(budget.descriptors.max, 500);
}
END_TEST

START_TEST(handles_of_a_file_share_a_descriptor)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handles[50];
    unsigned before = count_descriptors();

    for (unsigned i = 0; i < ARRAY_SIZE(handles); i++)
        handles[i] = client_open(&c, file, O_RDONLY);
    ck_assert_uint_le(count_descriptors(), before + 1);
    for (unsigned i = 0; i < ARRAY_SIZE(handles); i++) {
        ck_assert_int_eq(client_read(&c, FUSE_READ, file, handles[i], 0, 100), 0);
        ck_assert_uint_eq(client_got(&c), 15);
        ck_assert_int_eq(client_release(&c, file, handles[i]), 0);
    }
    ck_assert_uint_eq(count_descriptors(), before);
}
END_TEST

/* Those open for reading are closed for a while; a file keeps the descriptor that can write. */
START_TEST(more_open_files_than_descriptors)
{
    enum { FILES = 600 };
    static struct client small;
    static uint64_t nodes[FILES], handles[FILES];
    struct rlimit limit = { 256, 256 };
    uint64_t writer, handle;
    char name[32];

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    client_init(&small, true);
    client_write_file(&small, "written", "");
    writer = client_lookup(&small, ROOT, "written");
    handle = client_open(&small, writer, O_WRONLY);
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        client_write_file(&small, name, name);
        nodes[i] = client_lookup(&small, ROOT, name);
        handles[i] = client_open(&small, nodes[i], O_RDONLY);
    }
    ck_assert_uint_lt(count_descriptors(), 256);
    /* The guest removes an open file whose descriptor is closed at the moment. */
    ck_assert_int_eq(client_ask(&small, FUSE_UNLINK, ROOT, NULL, 0, "f0", NULL), 0);
    ck_assert_int_eq(client_rename(&small, ROOT, "f2", ROOT, "f1"), 0);
    for (unsigned i = 0; i < FILES; i++) {
        ck_assert_int_eq(client_read(&small, FUSE_READ, nodes[i], handles[i], 0, 100), 0);
        snprintf(name, sizeof(name), "f%u", i);
        ck_assert_uint_eq(client_got(&small), strlen(name));
        ck_assert_mem_eq(small.reply.payload, name, strlen(name));
    }
    ck_assert_int_eq(client_write(&small, writer, handle, 0, "x"), 0);
    for (unsigned i = 0; i < FILES; i++)
        ck_assert_int_eq(client_release(&small, nodes[i], handles[i]), 0);
    client_finish(&small);
}
END_TEST

/* Directories without a cached descriptor are reopened by path. */
START_TEST(more_directories_than_cached_descriptors)
{
    enum { DIRECTORIES = 600 };
    static uint64_t nodes[DIRECTORIES], inner[DIRECTORIES];
    char name[32];

    for (unsigned i = 0; i < DIRECTORIES; i++) {
        snprintf(name, sizeof(name), "d%u", i);
        ck_assert_int_eq(mkdir(client_path(&c, name), 0755), 0);
        nodes[i] = client_lookup(&c, ROOT, name);
        snprintf(name, sizeof(name), "d%u/inner", i);
        ck_assert_int_eq(mkdir(client_path(&c, name), 0755), 0);
        inner[i] = client_lookup(&c, nodes[i], "inner");
        snprintf(name, sizeof(name), "d%u/inner/f%u", i, i);
        client_write_file(&c, name, "");
    }
    for (unsigned i = 0; i < DIRECTORIES; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        client_lookup(&c, inner[i], name);
    }
    ck_assert_uint_lt(count_descriptors(), DIRECTORIES / 2);
}
END_TEST

/* A path may be longer than PATH_MAX, and no directory on the way cached. */
START_TEST(directories_deeper_than_path_max)
{
    enum { DEPTH = 600 };
    static uint64_t nodes[DEPTH];
    const struct fuse_mkdir_in mkdir_in = { .mode = 0755 };
    static struct client deep;
    char name[32];

    client_init(&deep, true);
    deep.budget.directories = 4;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    for (unsigned i = 0; i < DEPTH; i++) {
        ck_assert_int_eq(client_ask(&deep, FUSE_MKDIR, i ? nodes[i - 1] : ROOT, &mkdir_in,
                                    sizeof(mkdir_in), name, NULL),
                         0);
        nodes[i] = client_entry(&deep)->nodeid;
    }
    for (unsigned i = 0; i < 10; i++) { /* caches other directories */
        snprintf(name, sizeof(name), "d%u", i);
        ck_assert_int_eq(mkdir(client_path(&deep, name), 0755), 0);
        client_ask(&deep, FUSE_LOOKUP, client_lookup(&deep, ROOT, name), NULL, 0, "none", NULL);
    }
    memset(name, 'x', sizeof(name) - 1);
    ck_assert_int_eq(client_open_as(&deep, FUSE_OPENDIR, nodes[DEPTH - 1], 0, NULL), 0);
    for (unsigned i = DEPTH; i-- > 0;)
        ck_assert_int_eq(
            client_ask(&deep, FUSE_RMDIR, i ? nodes[i - 1] : ROOT, NULL, 0, name, NULL), 0);
    client_finish(&deep);
}
END_TEST

/* A share below an overlay in the guest: what the host changes must not be ESTALE there. */
static struct client under;

static void under_start(void)
{
    memset(&under, 0, sizeof(under));
    under.overlaid = true;
    ck_assert_int_eq(pipe2(under.names_fd, O_NONBLOCK), 0);
    client_start(&under, client_path(&c, ""), false);
}

static void under_finish(void)
{
    client_finish(&under);
    close(under.names_fd[0]);
    close(under.names_fd[1]);
}

/* Is the guest told to drop its names? Waits for that if it is expected. */
static bool names_changed(bool expected)
{
    char line[7] = "";

    for (unsigned i = 0; i < (expected ? 3000 : 3); i++) {
        loop_turn(under.loop, 10);
        if (read(under.names_fd[0], line, 6) == 6)
            return !strcmp(line, "names\n");
    }
    return false;
}

static void replace_on_host(const char *name, const char *text)
{
    char other[128];

    client_write_file(&c, "replacement", text);
    strcpy(other, client_path(&c, "replacement"));
    ck_assert_int_eq(rename(other, client_path(&c, name)), 0);
}

static void check_content(uint64_t node, uint64_t handle, const char *text)
{
    ck_assert_int_eq(client_read(&under, FUSE_READ, node, handle, 0, 100), 0);
    ck_assert_uint_eq(client_got(&under), strlen(text));
    ck_assert_mem_eq(under.reply.payload, text, strlen(text));
}

START_TEST(a_replaced_file_keeps_its_node_under_an_overlay)
{
    uint64_t file, handle;

    under_start();
    file = client_lookup(&under, ROOT, "file");
    replace_on_host("file", "replaced");
    ck_assert_int_eq(client_getattr(&under, file), 0);
    ck_assert_uint_eq(client_attr(&under)->size, 8);
    ck_assert_uint_eq(client_lookup(&under, ROOT, "file"), file);
    handle = client_open(&under, file, O_RDONLY);
    check_content(file, handle, "replaced");
    client_release(&under, file, handle);
    replace_on_host("file", "once more");
    /* The guest would read as much as the old file had: it must first look up again. */
    ck_assert_int_eq(client_open_as(&under, FUSE_OPEN, file, O_RDONLY, NULL), ESTALE);
    ck_assert_uint_eq(client_lookup(&under, ROOT, "file"), file);
    ck_assert_uint_eq(client_entry(&under)->attr.size, 9);
    handle = client_open(&under, file, O_RDONLY);
    check_content(file, handle, "once more");
    ck_assert(!names_changed(false));
    under_finish();
}
END_TEST

/* The guest's page cache belongs to the node: it must not mix two files. */
START_TEST(an_open_file_keeps_its_content_under_an_overlay)
{
    uint64_t file, first, second;

    under_start();
    file = client_lookup(&under, ROOT, "file");
    first = client_open(&under, file, O_RDONLY);
    replace_on_host("file", "replaced");
    ck_assert_uint_eq(client_lookup(&under, ROOT, "file"), file);
    ck_assert_uint_eq(client_entry(&under)->attr.size, 15);
    second = client_open(&under, file, O_RDONLY);
    check_content(file, second, "the file's text");
    check_content(file, first, "the file's text");
    client_release(&under, file, first);
    client_release(&under, file, second);
    ck_assert_uint_eq(client_lookup(&under, ROOT, "file"), file);
    ck_assert_uint_eq(client_entry(&under)->attr.size, 8);
    second = client_open(&under, file, O_RDONLY);
    check_content(file, second, "replaced");
    under_finish();
}
END_TEST

START_TEST(a_replaced_directory_keeps_its_node_under_an_overlay)
{
    uint64_t folder, inner, handle;
    char moved[128];

    under_start();
    folder = client_lookup(&under, ROOT, "folder");
    inner = client_lookup(&under, folder, "inner");
    strcpy(moved, client_path(&c, "../moved"));
    ck_assert_int_eq(rename(client_path(&c, "folder"), moved), 0);
    ck_assert_int_eq(mkdir(client_path(&c, "folder"), 0755), 0);
    client_write_file(&c, "folder/inner", "another");
    ck_assert_uint_eq(client_lookup(&under, ROOT, "folder"), folder);
    ck_assert(names_changed(true)); /* names in it may be out of date */
    ck_assert_uint_eq(client_lookup(&under, folder, "inner"), inner);
    handle = client_open(&under, inner, O_RDONLY);
    check_content(inner, handle, "another");
    under_finish();
}
END_TEST

/* An open directory must not stand for the one that has taken its place. */
START_TEST(an_open_directory_is_replaced_under_an_overlay)
{
    uint64_t folder, handle;
    char moved[128];

    under_start();
    folder = client_lookup(&under, ROOT, "folder");
    ck_assert_int_eq(client_open_as(&under, FUSE_OPENDIR, folder, 0, &handle), 0);
    strcpy(moved, client_path(&c, "../moved"));
    ck_assert_int_eq(rename(client_path(&c, "folder"), moved), 0);
    ck_assert_int_eq(mkdir(client_path(&c, "folder"), 0755), 0);
    client_write_file(&c, "folder/other", "new");
    ck_assert_uint_eq(client_lookup(&under, ROOT, "folder"), folder);
    client_lookup(&under, folder, "other");
    ck_assert_int_eq(client_ask(&under, FUSE_LOOKUP, folder, NULL, 0, "inner", NULL), 0);
    ck_assert_uint_eq(client_entry(&under)->nodeid, 0);
    ck_assert_int_eq(client_read(&under, FUSE_READDIR, folder, handle, 0, 4096), 0);
    under_finish();
}
END_TEST

/* A handle whose descriptor was closed for a while fails rather than read another file. */
START_TEST(a_closed_handle_never_reads_another_file_under_an_overlay)
{
    struct rlimit limit = { 128, 128 };
    uint64_t file, handle, others[100];
    char name[32];

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    under_start();
    file = client_lookup(&under, ROOT, "file");
    handle = client_open(&under, file, O_RDONLY);
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        snprintf(name, sizeof(name), "f%u", i);
        client_write_file(&c, name, name);
        others[i] = client_lookup(&under, ROOT, name);
        client_open(&under, others[i], O_RDONLY);
    }
    replace_on_host("file", "replaced");
    client_lookup(&under, ROOT, "file");
    ck_assert_int_eq(client_read(&under, FUSE_READ, file, handle, 0, 100), ESTALE);
    check_content(file, client_open(&under, file, O_RDONLY), "replaced");
    under_finish();
}
END_TEST

/* Linux keeps the text of a link with the node. */
START_TEST(links_are_not_cached_under_an_overlay)
{
    const struct fuse_init_in in = { .major = 7, .minor = 36, .flags = ~0u };
    const struct fuse_init_out *out = (const void *)under.reply.payload;

    under_start();
    ck_assert_int_eq(
        client_ask(&under, FUSE_INIT, 0, &in, offsetof(struct fuse_init_in, flags2), NULL, NULL),
        0);
    ck_assert_uint_eq(out->flags & FUSE_CACHE_SYMLINKS, 0);
    ck_assert_uint_ne(out->flags & FUSE_MAX_PAGES, 0);
    under_finish();
}
END_TEST

START_TEST(a_vanished_file_is_announced_under_an_overlay)
{
    uint64_t file;

    under_start();
    file = client_lookup(&under, ROOT, "file");
    ck_assert_int_eq(unlink(client_path(&c, "file")), 0);
    ck_assert_uint_eq(client_lookup(&under, ROOT, "file"), file); /* an overlay needs it */
    ck_assert_uint_eq(client_entry(&under)->entry_valid, 0);
    ck_assert_uint_eq(client_entry(&under)->attr_valid, 0);
    ck_assert_int_eq(client_getattr(&under, file), ENOENT);
    ck_assert_int_eq(client_open_as(&under, FUSE_OPEN, file, O_RDONLY, NULL), ENOENT);
    ck_assert(names_changed(true));
    ck_assert_int_eq(mkdir(client_path(&c, "file"), 0755), 0); /* another type */
    ck_assert_uint_eq(client_lookup(&under, ROOT, "file"), file);
    ck_assert_int_eq(client_getattr(&under, file), ENOENT);
    client_forget(&under, file, 3); /* the guest has dropped its names */
    ck_assert_uint_ne(client_lookup(&under, ROOT, "file"), file);
    ck_assert_uint_eq(client_entry(&under)->attr.mode, S_IFDIR | 0755);
    under_finish();
}
END_TEST

START_TEST(a_name_that_appears_is_announced_under_an_overlay)
{
    under_start();
    ck_assert_int_eq(client_ask(&under, FUSE_LOOKUP, ROOT, NULL, 0, "new", NULL), 0);
    ck_assert_uint_eq(client_entry(&under)->nodeid, 0);
    ck_assert(!names_changed(false));
    client_write_file(&c, "new", "new");
    ck_assert(names_changed(true));
    ck_assert(names_changed(true)); /* twice: a reply may have been on its way */
    ck_assert(!names_changed(false));
    client_write_file(&c, "newer", "nobody has asked since");
    ck_assert(!names_changed(false));
    client_lookup(&under, ROOT, "new");
    under_finish();
}
END_TEST

struct listed {
    unsigned names, nodes;
    bool dots, seen[1000];
};

/* Parses the entries of one reply. Returns the offset of the next one. */
static uint64_t take_entries(struct listed *listed, bool plus, uint64_t offset)
{
    size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;

    for (size_t at = 0; at < client_got(&c);) {
        const struct fuse_entry_out *entry = (const void *)(c.reply.payload + at);
        const struct fuse_dirent *dirent =
            (const void *)(c.reply.payload + at + (plus ? sizeof(*entry) : 0));
        unsigned number = 0;
        char name[256] = "";

        memcpy(name, dirent->name, dirent->namelen);
        offset = dirent->off;
        at += FUSE_DIRENT_ALIGN(head + dirent->namelen);
        ck_assert_uint_le(at, client_got(&c));
        listed->names++;
        if (plus && entry->nodeid) {
            listed->nodes++;
            ck_assert_uint_eq(entry->attr.ino, dirent->ino);
        }
        if (sscanf(name, "n%u", &number) == 1) {
            ck_assert(!listed->seen[number]);
            listed->seen[number] = true;
        }
    }
    return offset;
}

START_TEST(long_directories_take_several_requests)
{
    const uint32_t sizes[] = { 300, 1000, 4096, 65536 };
    char name[32];

    for (unsigned i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "folder/n%u", i);
        client_write_file(&c, name, "");
    }
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
        bool plus = i % 2;
        uint32_t opcode = plus ? FUSE_READDIRPLUS : FUSE_READDIR;
        uint64_t folder = client_lookup(&c, ROOT, "folder"), handle, offset = 0;
        struct listed listed = { 0 };

        ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, folder, 0, &handle), 0);
        do {
            ck_assert_int_eq(client_read(&c, opcode, folder, handle, offset, sizes[i / 2]), 0);
            ck_assert_uint_le(client_got(&c), sizes[i / 2]);
            offset = take_entries(&listed, plus, offset);
        } while (client_got(&c) > 0);
        ck_assert_uint_eq(listed.names, 504); /* with ".", "..", inner and up */
        ck_assert_uint_eq(listed.nodes, plus ? 502 : 0);
    }
}
END_TEST

START_TEST(hostile_readdir_requests)
{
    uint64_t folder = client_lookup(&c, ROOT, "folder"), handle;
    const uint64_t offsets[] = { 1, 12345, INT64_MAX, UINT64_MAX, 1ull << 63 };

    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, folder, 0, &handle), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++)
        client_read(&c, FUSE_READDIRPLUS, folder, handle, offsets[i], 4096);
    ck_assert_int_eq(client_read(&c, FUSE_READDIR, folder, handle, 0, 10), EINVAL);
    ck_assert_int_eq(client_read(&c, FUSE_READDIR, folder, handle, 0, 0), EINVAL);
    ck_assert_int_eq(client_read(&c, FUSE_READDIR, folder, handle, 0, UINT32_MAX), 0);
    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, client_lookup(&c, ROOT, "file"), 0, NULL),
                     ENOTDIR);
}
END_TEST

START_TEST(page_cache_is_kept_unless_the_file_changed)
{
    const struct fuse_open_out *out = (const void *)c.reply.payload;
    uint64_t file = client_lookup(&c, ROOT, "file");

    client_open(&c, file, O_RDONLY);
    client_open(&c, file, O_RDONLY);
    ck_assert_uint_eq(out->open_flags & FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE);
    client_write_file(&c, "file", "others");
    client_open(&c, file, O_RDONLY);
    ck_assert_uint_eq(out->open_flags & FOPEN_KEEP_CACHE, 0);
}
END_TEST

/* After an unmount, or a guest's reboot: all nodes and handles are invalid and closed. */
START_TEST(destroy)
{
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);
    unsigned open = count_descriptors();

    ck_assert_int_eq(client_open_as(&c, FUSE_OPENDIR, client_lookup(&c, ROOT, "folder"), 0, NULL),
                     0);
    ck_assert_int_eq(client_ask(&c, FUSE_DESTROY, 0, NULL, 0, NULL, NULL), 0);
    ck_assert_int_eq(client_getattr(&c, file), ESTALE);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, 10), EBADF);
    ck_assert_uint_eq(count_descriptors(), open - 1);
    ck_assert_int_eq(client_getattr(&c, ROOT), 0);
}
END_TEST

/* However large the guest's buffer is, which may be the same page again and again. */
START_TEST(requests_have_a_largest_size)
{
    const uint32_t most = 248 * 65536;
    uint64_t file = client_lookup(&c, ROOT, "file"), handle = client_open(&c, file, O_RDONLY);

    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, most), 0);
    ck_assert_int_eq(client_read(&c, FUSE_READ, file, handle, 0, most + 1), EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fs");
    TCase *tcase = tcase_create("fs");
    const TTest *const tests[] = {
        init,
        lookup_and_getattr,
        lookup_of_nothing,
        hard_links_are_one_node,
        a_directory_mounted_twice_has_two_nodes,
        invalid_names_are_refused,
        forged_node_ids_are_stale,
        forgotten_node_ids_are_stale,
        batch_forget,
        links_are_read_and_not_followed,
        directory_replaced_by_a_link_is_stale,
        replaced_file_is_stale_when_closed,
        directories_that_swap_parents,
        forged_handles_are_refused,
        forgotten_file_stays_readable_while_open,
        offsets_and_lengths,
        requests_have_a_largest_size,
        truncated_requests_and_replies,
        unknown_operations,
        pipes_and_devices_are_not_opened,
        read_only_share_refuses_open_for_writing,
        read_only_share_refuses_all_changes,
        pseudo_filesystems_are_hidden,
        invalid_directories_are_refused,
        directory_without_permission_is_refused,
        handles_are_limited,
        nodes_are_limited_by_the_guests_memory,
        memory_of_nodes_is_bounded,
        shares_leave_descriptors_to_each_other,
        too_many_shares_are_refused,
        each_share_can_open_files,
        the_soft_limit_of_descriptors_is_raised,
        handles_of_a_file_share_a_descriptor,
        more_open_files_than_descriptors,
        more_directories_than_cached_descriptors,
        directories_deeper_than_path_max,
        a_replaced_file_keeps_its_node_under_an_overlay,
        an_open_file_keeps_its_content_under_an_overlay,
        a_replaced_directory_keeps_its_node_under_an_overlay,
        an_open_directory_is_replaced_under_an_overlay,
        a_closed_handle_never_reads_another_file_under_an_overlay,
        links_are_not_cached_under_an_overlay,
        a_vanished_file_is_announced_under_an_overlay,
        a_name_that_appears_is_announced_under_an_overlay,
        long_directories_take_several_requests,
        hostile_readdir_requests,
        page_cache_is_kept_unless_the_file_changed,
        destroy,
    };

    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
