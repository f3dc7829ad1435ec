/* SPDX-License-Identifier: MIT */

/*
 * Attacks a read-only share through its queues: names, nodes, handles, offsets, lengths, symbolic
 * links, all requests that write. No reply may contain a file outside of the share; test_virtio.py
 * checks that the directory is unchanged. The second device shares the host's "/", the third the
 * same directory as the first.
 *
 * With "walk" in the command line, walks through the first share for ever, as a guest does that
 * forgets what it no longer needs, and prints a line now and then.
 */
#include <linux/fuse.h>

#include "lib/platform.h"
#include "lib/virtio.h"

enum { HIGH_PRIORITY, REQUESTS, QUEUES };

#define ROOT     FUSE_ROOT_ID
#define NO_SUCH  2
#define BAD_FD   9
#define DENIED   13
#define NO_DEV   6
#define INVALID  22
#define READONLY 30
#define NO_CALL  38
#define STALE    116

#define WRITE_ONLY 1
#define READ_WRITE 2
#define TRUNCATE   0x200

static struct virtio fs;
static struct queue queues[QUEUES];

static struct {
    struct fuse_in_header header;
    uint8_t bytes[1024];
} out;
static struct {
    struct fuse_out_header header;
    uint8_t bytes[8192];
} in;

static unsigned length_of(const char *text)
{
    unsigned length = 0;

    while (text[length])
        length++;
    return length;
}

/* Looks for the contents of a file next to the share: see test_virtio.py. */
static void check_no_secret(uint32_t size)
{
    static const char secret[] = "not for guests";

    for (unsigned i = 0; sizeof(in.header) + i + sizeof(secret) <= size; i++)
        expect(in.bytes[i] != secret[0] || memcmp(in.bytes + i, secret, sizeof(secret) - 1));
}

/* Sends a request with `size` bytes of arguments. Returns 0 or the error, positive. */
static int send(uint32_t opcode, uint64_t node, uint32_t size)
{
    uint32_t written;

    out.header = (struct fuse_in_header){
        .len = sizeof(out.header) + size, .opcode = opcode, .unique = 7, .nodeid = node
    };
    queue_submit(&queues[REQUESTS],
                 &(struct request){
                     .out = &out, .out_size = out.header.len, .in = &in, .in_size = sizeof(in) });
    virtio_notify(&fs, REQUESTS);
    written = queue_wait(&queues[REQUESTS], 0);
    if (written == 0)
        return 0;
    expect_equal(written, in.header.len);
    expect_equal(in.header.unique, 7);
    check_no_secret(written);
    return -in.header.error;
}

/* Sends a request with arguments and up to two names. */
static int ask(uint32_t opcode, uint64_t node, const void *args, uint32_t size, const char *name,
               const char *second)
{
    memcpy(out.bytes, args, size);
    for (unsigned i = 0; i < 2; i++) {
        const char *text = i ? second : name;

        if (text) {
            memcpy(out.bytes + size, text, length_of(text) + 1);
            size += length_of(text) + 1;
        }
    }
    return send(opcode, node, size);
}

static uint64_t lookup(uint64_t parent, const char *name)
{
    const struct fuse_entry_out *entry = (const void *)in.bytes;

    expect_equal((uint64_t)ask(FUSE_LOOKUP, parent, NULL, 0, name, NULL), 0);
    expect(entry->nodeid);
    return entry->nodeid;
}

static int open_as(uint32_t opcode, uint64_t node, uint32_t flags, uint64_t *ret)
{
    const struct fuse_open_in args = { .flags = flags };
    int error = ask(opcode, node, &args, sizeof(args), NULL, NULL);

    *ret = 0;
    if (!error)
        *ret = ((const struct fuse_open_out *)(const void *)in.bytes)->fh;
    return error;
}

static int read_at(uint32_t opcode, uint64_t node, uint64_t handle, uint64_t offset, uint32_t size)
{
    const struct fuse_read_in args = { .fh = handle, .offset = offset, .size = size };

    return ask(opcode, node, &args, sizeof(args), NULL, NULL);
}

static void start(unsigned device)
{
    const struct fuse_init_in args = { .major = 7, .minor = 31 };

    fs = virtio_find(VIRTIO_ID_FS, device);
    virtio_start(&fs, ~0ull, queues, QUEUES);
    expect_equal((uint64_t)ask(FUSE_INIT, 0, &args, sizeof(args), NULL, NULL), 0);
}

/* The server still works. */
static void survived(const char *name)
{
    uint64_t file = lookup(ROOT, "file"), handle;

    expect_equal((uint64_t)open_as(FUSE_OPEN, file, 0, &handle), 0);
    expect_equal((uint64_t)read_at(FUSE_READ, file, handle, 0, 100), 0);
    expect_equal(in.header.len, sizeof(in.header) + 6);
    expect(!memcmp(in.bytes, "shared", 6));
    print("ok %s\n", name);
}

static void names(void)
{
    static const char *const bad[] = { "..",          ".",         "",          "/",
                                       "/etc/passwd", "../secret", "folder/..", "folder/up/secret",
                                       "out/secret" };
    static const char *const links[] = { "out", "absolute", "self" };
    uint64_t folder = lookup(ROOT, "folder"), handle;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        expect(ask(FUSE_LOOKUP, ROOT, NULL, 0, bad[i], NULL) != 0);
        expect(ask(FUSE_LOOKUP, folder, NULL, 0, bad[i], NULL) != 0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(links); i++) {
        uint64_t link = lookup(ROOT, links[i]);

        expect(ask(FUSE_LOOKUP, link, NULL, 0, "secret", NULL) != 0);
        expect(open_as(FUSE_OPEN, link, 0, &handle) != 0);
        expect(open_as(FUSE_OPENDIR, link, 0, &handle) != 0);
        expect_equal((uint64_t)ask(FUSE_READLINK, link, NULL, 0, NULL, NULL), 0);
    }
}

static void forged_nodes(void)
{
    static const uint64_t nodes[] = { 0, 99, 1ull << 32 | 1, ~0ull, 1ull << 63, 0xffffffff };
    uint64_t handle;

    for (unsigned i = 0; i < ARRAY_SIZE(nodes); i++) {
        expect_equal((uint64_t)ask(FUSE_LOOKUP, nodes[i], NULL, 0, "file", NULL), STALE);
        expect_equal((uint64_t)open_as(FUSE_OPEN, nodes[i], 0, &handle), STALE);
        expect_equal((uint64_t)ask(FUSE_GETATTR, nodes[i], NULL, 0, NULL, NULL), STALE);
        ask(FUSE_FORGET, nodes[i], &nodes[3], 8, NULL, NULL);
    }
    ask(FUSE_FORGET, ROOT, &nodes[3], 8, NULL, NULL);
}

/* Small numbers may be file descriptors of the host process. */
static void forged_handles(void)
{
    uint64_t file = lookup(ROOT, "file"), handle;

    expect_equal((uint64_t)open_as(FUSE_OPEN, file, 0, &handle), 0);
    for (uint64_t i = 0; i < 64; i++) { /* earlier handles are open, too, of the same file */
        expect(i > 0 && i <= handle ? read_at(FUSE_READ, file, i, 0, 4096) == 0
                                    : read_at(FUSE_READ, file, i, 0, 4096) == BAD_FD);
        expect(read_at(FUSE_READDIR, ROOT, i, 0, 4096) == BAD_FD);
    }
    expect_equal((uint64_t)read_at(FUSE_READ, ROOT, handle, 0, 100), BAD_FD);
    expect_equal((uint64_t)read_at(FUSE_READ, file, handle | 1ull << 32, 0, 100), BAD_FD);
}

static void offsets_and_lengths(void)
{
    static const uint64_t offsets[] = { 6, 1ull << 40, ~0ull >> 1, ~0ull, 1ull << 63 };
    uint64_t file = lookup(ROOT, "file"), handle;

    expect_equal((uint64_t)open_as(FUSE_OPEN, file, 0, &handle), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
        int error = read_at(FUSE_READ, file, handle, offsets[i], 0xffffffff);

        expect(error == INVALID || in.header.len == sizeof(in.header));
    }
    expect_equal((uint64_t)read_at(FUSE_READ, file, handle, 0, 0xffffffff), INVALID);
    expect_equal((uint64_t)read_at(FUSE_READ, file, handle, 0, 0xf00000), 0);
    expect_equal(in.header.len, sizeof(in.header) + 6);
    for (uint32_t size = 0; size < 120; size += 17)
        for (uint32_t opcode = 1; opcode < 52; opcode++)
            if (opcode != FUSE_INIT && opcode != FUSE_DESTROY)
                send(opcode, file, size);
}

static void every_write(void)
{
    static const uint32_t opcodes[] = {
        FUSE_SETATTR,   FUSE_SYMLINK, FUSE_MKNOD,    FUSE_MKDIR,       FUSE_UNLINK,
        FUSE_RMDIR,     FUSE_RENAME,  FUSE_LINK,     FUSE_WRITE,       FUSE_RENAME2,
        FUSE_FALLOCATE, FUSE_CREATE,  FUSE_SETXATTR, FUSE_REMOVEXATTR,
    };
    static const uint32_t unknown[] = { FUSE_IOCTL, FUSE_COPY_FILE_RANGE, FUSE_SETUPMAPPING };
    static const uint32_t flags[] = { WRITE_ONLY, READ_WRITE, 3, TRUNCATE, TRUNCATE | READ_WRITE };
    uint64_t file = lookup(ROOT, "file"), handle;

    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        expect_equal((uint64_t)open_as(FUSE_OPEN, file, flags[i], &handle), READONLY);
    expect_equal((uint64_t)open_as(FUSE_OPEN, file, 0, &handle), 0);
    memset(out.bytes, 0, sizeof(out.bytes));
    for (unsigned i = 0; i < ARRAY_SIZE(opcodes); i++)
        for (uint32_t size = 0; size < 128; size += 8) {
            memset(out.bytes, 0, size);
            memcpy(out.bytes, &handle, sizeof(handle));
            memcpy(out.bytes + size, "file\0other", 11);
            expect_equal((uint64_t)send(opcodes[i], i % 2 ? ROOT : file, size + 11), READONLY);
        }
    for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
        expect_equal((uint64_t)send(unknown[i], file, 64), NO_CALL);
}

/* Opening a pipe on the host would block the server for ever. */
static void open_pipe(void)
{
    uint64_t node = lookup(ROOT, "pipe"), handle;

    for (uint32_t flags = 0; flags < 3; flags++)
        expect(open_as(FUSE_OPEN, node, flags, &handle) == (flags ? READONLY : NO_DEV));
}

static void queue_of_forgets(void)
{
    static struct {
        struct fuse_in_header header;
        struct fuse_forget_in forget;
    } forget = { { .len = sizeof(forget), .opcode = FUSE_FORGET, .nodeid = 2 }, { ~0ull } };

    for (unsigned i = 0; i < 100; i++) {
        queue_submit(&queues[HIGH_PRIORITY],
                     &(struct request){ .out = &forget, .out_size = sizeof(forget) });
        virtio_notify(&fs, HIGH_PRIORITY);
        expect_equal(queue_wait(&queues[HIGH_PRIORITY], 0), 0);
    }
}

/* A guest must not reach the files of the VMM's own process. */
static void proc_of_the_host(void)
{
    uint64_t proc = lookup(ROOT, "proc"), handle;

    expect_equal((uint64_t)ask(FUSE_LOOKUP, proc, NULL, 0, "self", NULL), DENIED);
    expect_equal((uint64_t)open_as(FUSE_OPENDIR, proc, 0, &handle), DENIED);
    print("ok proc_of_the_host\n");
}

/* More open directories than the process may have descriptors (see test_virtio.py). */
static void exhaust_descriptors(void)
{
    char name[] = "d00";
    uint64_t folder = lookup(ROOT, "folder"), handle;

    for (unsigned i = 0; i < 100; i++) {
        name[1] = (char)('0' + i / 10);
        name[2] = (char)('0' + i % 10);
        expect_equal((uint64_t)ask(FUSE_LOOKUP, lookup(folder, name), NULL, 0, "x", NULL), 0);
    }
    for (unsigned i = 0; i < 400; i++)
        expect_equal((uint64_t)open_as(FUSE_OPENDIR, folder, 0, &handle), 0);
}

static void exhaust_descriptors_twice(void)
{
    start(0);
    exhaust_descriptors();
    start(2);
    exhaust_descriptors();
    start(2);
    survived("exhaust_descriptors_twice");
}

static void release(uint32_t opcode, uint64_t node, uint64_t handle)
{
    const struct fuse_release_in args = { .fh = handle };

    expect_equal((uint64_t)ask(opcode, node, &args, sizeof(args), NULL, NULL), 0);
}

/* Its reply has no bytes. */
static void forget(uint64_t node, uint64_t count)
{
    expect_equal((uint64_t)ask(FUSE_FORGET, node, &count, sizeof(count), NULL, NULL), 0);
}

/* Lists the root, with a lookup of each entry, looks into a folder and reads a file. */
static void walk_once(void)
{
    uint64_t folder = lookup(ROOT, "folder"), inner = lookup(folder, "d42"),
             file = lookup(ROOT, "file"), nodes[32], handle;
    unsigned count = 0;

    expect_equal((uint64_t)open_as(FUSE_OPENDIR, ROOT, 0, &handle), 0);
    expect_equal((uint64_t)read_at(FUSE_READDIRPLUS, ROOT, handle, 0, sizeof(in.bytes)), 0);
    for (uint32_t at = 0; at < in.header.len - sizeof(in.header);) {
        const struct fuse_direntplus *entry = (const void *)(in.bytes + at);

        if (entry->entry_out.nodeid)
            nodes[count++] = entry->entry_out.nodeid;
        at += FUSE_DIRENTPLUS_SIZE(entry);
    }
    release(FUSE_RELEASEDIR, ROOT, handle);
    expect_equal((uint64_t)open_as(FUSE_OPEN, file, 0, &handle), 0);
    expect_equal((uint64_t)read_at(FUSE_READ, file, handle, 0, 100), 0);
    release(FUSE_RELEASE, file, handle);
    while (count > 0)
        forget(nodes[--count], 1);
    forget(file, 1);
    forget(inner, 1);
    forget(folder, 1);
}

static void walk(void)
{
    for (unsigned i = 1;; i++) {
        walk_once();
        if (i % 100 == 0)
            print("walked\n");
    }
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } attacks[] = {
        { "names", names },
        { "forged_nodes", forged_nodes },
        { "forged_handles", forged_handles },
        { "offsets_and_lengths", offsets_and_lengths },
        { "every_write", every_write },
        { "open_pipe", open_pipe },
        { "queue_of_forgets", queue_of_forgets },
    };

    start(0);
    if (platform_cmdline()[0] == 'w')
        walk();
    survived("valid_requests");
    for (unsigned i = 0; i < ARRAY_SIZE(attacks); i++) {
        attacks[i].run();
        survived(attacks[i].name);
    }
    start(1);
    proc_of_the_host();
    exhaust_descriptors_twice();
    return 0;
}
