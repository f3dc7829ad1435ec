/* SPDX-License-Identifier: MIT */

/*
 * A FUSE client that sends requests made of the input to a writable share of a new directory. Some
 * inputs also save the share and load it, from a state that may be forged. Nothing outside of the
 * directory may change.
 */
#include "devices/fs/fuse.h"

#include <dirent.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fs/budget.h"
#include "devices/fs/share.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/state.h"

#define ROOM       9000u
#define PIECES     4u
#define LARGEST    (1u << 20) /* bytes; limit for files of the fuzzer */
#define REMEMBERED 8u

#define RESTORE 0xfe /* instead of an opcode */

#define POSIX_ACL "system.posix_acl_access"

struct server {
    bool unsupported;
    uint32_t kept; /* objects that stay: the root */
    const struct share_options *options;
    struct share_budget budget;
    struct loop *loop;
    struct share *share;
    struct fuse *fuse;
};

/* Ids from the latest replies. */
struct known {
    uint64_t nodes[REMEMBERED], handles[REMEMBERED];
    unsigned node, handle;
};

static uint8_t take_byte(struct input *in)
{
    return (uint8_t)take(in, 1);
}

static void write_file(const char *top, const char *name, const char *text)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", top, name);
    file = fopen(path, "w");
    demand(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void make_tree(char *top)
{
    char path[128];

    demand(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/share", top);
    demand(mkdir(path, 0755) == 0);
    write_file(top, "secret", "secret");
    write_file(top, "share/a", "some text");
    snprintf(path, sizeof(path), "%s/share/b", top);
    demand(mkdir(path, 0755) == 0);
    write_file(top, "share/b/c", "");
    snprintf(path, sizeof(path), "%s/share/d", top);
    demand(symlink("..", path) == 0);
}

/* The parent directory contains the unchanged secret, the share, and nothing else. */
static void check_outside(const char *top)
{
    unsigned entries = 0;
    char path[128], text[16] = "";
    struct stat stat;
    DIR *directory = opendir(top);
    FILE *file;

    demand(directory);
    while (readdir(directory))
        entries++;
    closedir(directory);
    demand(entries == 4);
    snprintf(path, sizeof(path), "%s/secret", top);
    demand(lstat(path, &stat) == 0 && stat.st_nlink == 1 && (stat.st_mode & 07777) == 0644);
    file = fopen(path, "r");
    demand(file && fread(text, 1, sizeof(text) - 1, file) == 6 && !strcmp(text, "secret"));
    fclose(file);
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
    if (type == FTW_DNR)
        chmod(path, 0700);
    return remove(path) && false;
}

static uint64_t take_id(struct input *in, const uint64_t *ids)
{
    uint8_t choice = take_byte(in);

    return choice < 0xf0 ? ids[choice % REMEMBERED]
                         : (uint64_t)take_byte(in) << (choice & 7) * 8 | (choice & 8);
}

/* Makes a request of bytes of the input, ids from replies and names that exist. */
static size_t make_request(struct input *in, const struct known *known, uint8_t *bytes)
{
    static const char *const names[] = { "a", "b",   "c",    "d", "new",    "..",     ".",
                                         "",  "b/c", "/etc", "e", "secret", "user.a", POSIX_ACL };
    struct fuse_in_header header = { .opcode = take_byte(in), .nodeid = take_id(in, known->nodes) };
    size_t size = sizeof(header);
    uint8_t shape = take_byte(in), args = take_byte(in) % 129;

    for (unsigned i = 0; i < args; i++)
        bytes[size++] = take_byte(in);
    if (shape & 1 && args >= 8) /* many structs begin with a handle or node */
        memcpy(bytes + sizeof(header), &known->handles[shape >> 5], 8);
    if (shape & 2 && args >= 8)
        memcpy(bytes + sizeof(header), &known->nodes[shape >> 5], 8);
    for (unsigned i = 0; i < (shape >> 2 & 3u); i++) {
        const char *name = names[take_byte(in) % ARRAY_SIZE(names)];

        memcpy(bytes + size, name, strlen(name) + 1);
        size += strlen(name) + 1;
    }
    if (header.opcode == FUSE_FALLOCATE && args >= 32) /* do not fill the disk */
        memset(bytes + sizeof(header) + 8 + 8 + 3, 0, 5);
    header.len = (uint32_t)size;
    memcpy(bytes, &header, sizeof(header));
    return size;
}

static void remember(struct known *known, uint32_t opcode, const uint8_t *payload, size_t size)
{
    struct fuse_entry_out entry;
    struct fuse_open_out open;

    if ((opcode == FUSE_LOOKUP || opcode == FUSE_MKDIR || opcode == FUSE_CREATE ||
         opcode == FUSE_SYMLINK) &&
        size >= sizeof(entry)) {
        memcpy(&entry, payload, sizeof(entry));
        known->nodes[++known->node % REMEMBERED] = entry.nodeid;
        payload += sizeof(entry);
        size -= sizeof(entry);
    }
    if (opcode != FUSE_LOOKUP && size == sizeof(open)) {
        memcpy(&open, payload, sizeof(open));
        known->handles[++known->handle % REMEMBERED] = open.fh;
    }
}

/* A request may have taken its owner's rights to the share. */
static void start(struct server *server)
{
    demand(chmod(server->options->path, 0755) == 0);
    demand(share_open(&server->share, server->options, &server->budget, server->loop) == 0);
    demand((server->fuse = fuse_create(server->share)) != NULL);
}

static void stop(struct server *server)
{
    fuse_destroy(server->fuse);
    share_close(server->share);
}

static void walk(struct server *server, struct state *s)
{
    state_section(s, "fs0", 1);
    fuse_state(server->fuse, s);
    state_end_section(s);
}

static void save(struct server *server, struct state *s)
{
    state_begin_save(s);
    walk(server, s);
    demand(!s->error);
}

/* Loads into a new server. */
static bool load(struct server *server, const struct state *saved)
{
    struct state s;

    stop(server);
    start(server);
    state_begin_load(&s, saved->bytes, saved->at);
    walk(server, &s);
    return state_finish(&s) == 0;
}

/*
 * Saving, loading and saving again gives the same state. A forged one may be refused, after which a
 * new server is started.
 */
static void restore(struct server *server, struct input *in)
{
    struct state saved, again;

    save(server, &saved);
    demand(load(server, &saved));
    save(server, &again);
    demand(again.at == saved.at && !memcmp(again.bytes, saved.bytes, saved.at));
    state_finish(&saved);
    for (unsigned forgeries = take_byte(in) % 8; forgeries > 0; forgeries--) {
        size_t at = take_byte(in) | (size_t)take_byte(in) << 8;

        again.bytes[at % again.at] ^= take_byte(in);
    }
    if (!load(server, &again)) {
        stop(server);
        start(server);
    }
    state_finish(&again);
}

static bool changes_files(uint32_t opcode)
{
    static const uint32_t reading[] = {
        FUSE_LOOKUP,    FUSE_FORGET,      FUSE_GETATTR,      FUSE_READLINK,   FUSE_READ,
        FUSE_STATFS,    FUSE_RELEASE,     FUSE_GETXATTR,     FUSE_FLUSH,      FUSE_LISTXATTR,
        FUSE_INIT,      FUSE_OPENDIR,     FUSE_READDIR,      FUSE_RELEASEDIR, FUSE_ACCESS,
        FUSE_INTERRUPT, FUSE_DESTROY,     FUSE_LSEEK,        FUSE_FSYNC,      FUSE_FSYNCDIR,
        FUSE_SYNCFS,    FUSE_READDIRPLUS, FUSE_BATCH_FORGET,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(reading); i++)
        if (opcode == reading[i])
            return false;
    return opcode <= FUSE_TMPFILE;
}

/* Serves one request. Returns whether it may have changed a file. */
static bool step(struct fuse *fuse, struct known *known, struct input *in)
{
    static uint8_t request[ROOM], reply[ROOM];
    struct iovec out[PIECES + 1], back[PIECES + 1];
    size_t size = make_request(in, known, request), cut = take_byte(in) % size;
    size_t room = take_byte(in) < 0xc0 ? ROOM - 1 : take_byte(in),
           gap = room ? take_byte(in) % room : 0;
    struct sg readable = { .iov = out, .length = size };
    struct sg writable = { .iov = back, .length = room };
    uint32_t written, opcode = ((struct fuse_in_header *)(void *)request)->opcode;
    bool changed = changes_files(opcode);
    struct fuse_out_header header;

    out[0] = (struct iovec){ request, cut };
    out[1] = (struct iovec){ request + cut, size - cut };
    back[0] = (struct iovec){ reply, gap };
    back[1] = (struct iovec){ reply + gap, room - gap };
    reply[room] = 0x55;
    written = fuse_serve(fuse, &readable, &writable);
    demand(written <= room && reply[room] == 0x55);
    demand(written == 0 || written >= sizeof(header));
    if (written == 0)
        return changed;
    memcpy(&header, reply, sizeof(header));
    demand(header.len == written && header.error <= 0 && header.error > -1000);
    if (!header.error)
        remember(known, opcode, reply + sizeof(header), written - sizeof(header));
    return changed && (!header.error || opcode == FUSE_SETATTR); /* that may be done in part */
}

/* Of all runs that change no file: to make a tree anew costs more than most runs. */
static struct server server;
static char top[64];

static void remove_tree(void)
{
    if (server.share)
        stop(&server);
    server.share = NULL;
    if (*top)
        nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void renew_tree(void)
{
    static char path[80];
    static struct share_options options = { .path = path, .writable = true };

    remove_tree();
    snprintf(top, sizeof(top), "%s/minivmm-fuzz-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    umask(022); /* the secret's mode is checked */
    make_tree(top);
    snprintf(path, sizeof(path), "%s/share", top);
    server.options = &options;
    start(&server);
    server.kept = server.budget.objects.used;
}

static void begin(void)
{
    const struct rlimit limit = { LARGEST, LARGEST };
    static const struct share_options any = { .path = "/" };

    log_set_level(LOG_LEVEL_ERROR);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    demand(budget_init(&server.budget, 64u << 20, 1) == 0);
    demand((server.loop = loop_create()) != NULL);
    /* On qemu-user, which lacks openat2(), no share can be opened. */
    server.unsupported = share_open(&server.share, &any, &server.budget, server.loop) < 0;
    if (!server.unsupported)
        share_close(server.share);
    server.share = NULL;
    atexit(remove_tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    struct known known = { .nodes = { 1, 1, 1, 1, 1, 1, 1, 1 } };
    bool changed = false, restored = false;

    if (!server.loop)
        begin();
    if (server.unsupported)
        return 0;
    if (!server.share)
        renew_tree();
    while (in.size > 0)
        if (!restored && *in.data == RESTORE && take_byte(&in)) {
            restore(&server, &in);
            restored = true; /* more often would tell nothing new, and take long */
        } else {
            changed |= step(server.fuse, &known, &in);
        }
    share_forget_all(server.share);
    demand(server.budget.objects.used == server.kept && server.budget.descriptors.used == 0);
    check_outside(top);
    if (changed)
        remove_tree();
    return 0;
}
