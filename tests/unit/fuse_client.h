/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_FUSE_CLIENT_H
#define TESTS_UNIT_FUSE_CLIENT_H

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/fs/budget.h"
#include "devices/fs/fuse.h"
#include "devices/fs/share.h"
#include "vmm/core/base.h"
#include "vmm/core/loop.h"
#include "vmm/core/sg.h"

/*
 * A FUSE client, as a guest's kernel has one, for a share of a new directory. Next to the directory
 * is a file `secret`, which the guest must not reach.
 */
#define CLIENT_ROOM 70000u

struct client {
    char top[64];    /* directory with `secret` and `share` */
    char path[128];  /* result of the last client_path() */
    unsigned others; /* other shares of this process */
    bool overlaid;   /* read-only, and names_fd[0] tells of changed names */
    int names_fd[2];
    struct share_budget budget, *joint; /* its own, or that of another client */
    struct loop *loop;
    struct share *share;
    struct fuse *fuse;
    uint8_t request[CLIENT_ROOM];
    size_t request_size;
    struct {
        struct fuse_out_header header;
        uint8_t payload[CLIENT_ROOM];
    } reply;
    size_t room;         /* bytes of the reply buffer, header included */
    uint32_t replied;    /* as returned by fuse_serve() */
    uint32_t header_len; /* if not 0, a wrong length for the request's header */
};

static inline const char *client_path(struct client *c, const char *name)
{
    snprintf(c->path, sizeof(c->path), "%s/share/%s", c->top, name);
    return c->path;
}

static inline void client_write_file(struct client *c, const char *name, const char *text)
{
    FILE *file = fopen(client_path(c, name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static inline void client_start_with(struct client *c, const struct share_options *options)
{
    c->loop = loop_create();
    ck_assert_ptr_nonnull(c->loop);
    ck_assert_int_eq(budget_init(&c->budget, 1u << 30, c->others + 1), 0);
    ck_assert_int_eq(share_open(&c->share, options, c->joint ? c->joint : &c->budget, c->loop), 0);
    c->fuse = fuse_create(c->share);
    ck_assert_ptr_nonnull(c->fuse);
    c->room = sizeof(c->reply);
}

static inline void client_start(struct client *c, const char *path, bool writable)
{
    client_start_with(c, &(struct share_options){ .path = path,
                                                  .writable = writable,
                                                  .overlaid = c->overlaid,
                                                  .names_fd = c->names_fd[1] });
}

static inline void client_init(struct client *c, bool writable)
{
    memset(c, 0, sizeof(*c));
    strcpy(c->top, "/tmp/minivmm-fs-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(c->top));
    ck_assert_int_eq(mkdir(client_path(c, ""), 0755), 0);
    client_write_file(c, "../secret", "secret");
    client_start(c, client_path(c, ""), writable);
}

static inline int client_remove(const char *path, const struct stat *stat, int type,
                                struct FTW *walk)
{
    return remove(path);
}

static inline void client_stop(struct client *c)
{
    fuse_destroy(c->fuse);
    share_close(c->share);
    loop_destroy(c->loop);
    ck_assert_uint_eq(c->budget.objects.used, 0);
    ck_assert_uint_eq(c->budget.descriptors.used, 0);
}

static inline void client_finish(struct client *c)
{
    client_stop(c);
    if (*c->top)
        nftw(c->top, client_remove, 32, FTW_DEPTH | FTW_PHYS);
}

static inline void client_add(struct client *c, const void *bytes, size_t size)
{
    ck_assert_uint_le(size, sizeof(c->request) - c->request_size);
    if (size > 0)
        memcpy(c->request + c->request_size, bytes, size);
    c->request_size += size;
}

static inline void client_begin(struct client *c, uint32_t opcode, uint64_t node)
{
    struct fuse_in_header header = { .opcode = opcode, .unique = 4711, .nodeid = node };

    header.uid = getuid();
    header.gid = getgid();
    c->request_size = 0;
    client_add(c, &header, sizeof(header));
}

/* Returns the reply's error as a positive number; 0: success, or no reply. */
static inline int client_send(struct client *c)
{
    struct iovec in = { c->request, c->request_size }, out = { &c->reply, c->room };
    struct sg request = { .iov = &in, .length = in.iov_len };
    struct sg reply = { .iov = &out, .length = out.iov_len };
    uint32_t len = c->header_len ? c->header_len : (uint32_t)c->request_size;

    memcpy(c->request, &len, sizeof(len));
    memset(&c->reply, 0x55, sizeof(c->reply));
    c->replied = fuse_serve(c->fuse, &request, &reply);
    if (c->replied == 0)
        return 0;
    ck_assert_uint_le(c->replied, c->room);
    ck_assert_uint_eq(c->replied, c->reply.header.len);
    ck_assert_uint_eq(c->reply.header.unique, 4711);
    ck_assert_int_le(c->reply.header.error, 0);
    if (c->reply.header.error)
        ck_assert_uint_eq(c->replied, sizeof(c->reply.header));
    return -c->reply.header.error;
}

/* Sends a request: arguments, then names. Any of these may be NULL. */
static inline int client_ask(struct client *c, uint32_t opcode, uint64_t node, const void *args,
                             size_t size, const char *name, const char *second)
{
    client_begin(c, opcode, node);
    client_add(c, args, size);
    if (name)
        client_add(c, name, strlen(name) + 1);
    if (second)
        client_add(c, second, strlen(second) + 1);
    return client_send(c);
}

static inline const struct fuse_entry_out *client_entry(const struct client *c)
{
    return (const void *)c->reply.payload;
}

static inline const struct fuse_attr *client_attr(const struct client *c)
{
    return &((const struct fuse_attr_out *)(const void *)c->reply.payload)->attr;
}

/* Looks up a file that must exist. Returns its node. */
static inline uint64_t client_lookup(struct client *c, uint64_t parent, const char *name)
{
    ck_assert_int_eq(client_ask(c, FUSE_LOOKUP, parent, NULL, 0, name, NULL), 0);
    ck_assert_uint_ne(client_entry(c)->nodeid, 0);
    return client_entry(c)->nodeid;
}

static inline int client_getattr(struct client *c, uint64_t node)
{
    const struct fuse_getattr_in in = { 0 };

    return client_ask(c, FUSE_GETATTR, node, &in, sizeof(in), NULL, NULL);
}

static inline int client_forget(struct client *c, uint64_t node, uint64_t count)
{
    const struct fuse_forget_in in = { .nlookup = count };

    return client_ask(c, FUSE_FORGET, node, &in, sizeof(in), NULL, NULL);
}

/* By FUSE_OPEN or FUSE_OPENDIR. */
static inline int client_open_as(struct client *c, uint32_t opcode, uint64_t node, uint32_t flags,
                                 uint64_t *ret)
{
    const struct fuse_open_in in = { .flags = flags };
    int error = client_ask(c, opcode, node, &in, sizeof(in), NULL, NULL);

    if (!error && ret)
        *ret = ((const struct fuse_open_out *)(const void *)c->reply.payload)->fh;
    return error;
}

static inline uint64_t client_open(struct client *c, uint64_t node, uint32_t flags)
{
    uint64_t handle;

    ck_assert_int_eq(client_open_as(c, FUSE_OPEN, node, flags, &handle), 0);
    return handle;
}

static inline int client_release(struct client *c, uint64_t node, uint64_t handle)
{
    const struct fuse_release_in in = { .fh = handle };

    return client_ask(c, FUSE_RELEASE, node, &in, sizeof(in), NULL, NULL);
}

/* FUSE_READ, FUSE_READDIR or FUSE_READDIRPLUS: the data is in the reply's payload. */
static inline int client_read(struct client *c, uint32_t opcode, uint64_t node, uint64_t handle,
                              uint64_t offset, uint32_t size)
{
    const struct fuse_read_in in = { .fh = handle, .offset = offset, .size = size };

    return client_ask(c, opcode, node, &in, sizeof(in), NULL, NULL);
}

static inline size_t client_got(const struct client *c)
{
    return c->replied - sizeof(c->reply.header);
}

static inline int client_rename(struct client *c, uint64_t parent, const char *name,
                                uint64_t new_parent, const char *new_name)
{
    const struct fuse_rename_in in = { .newdir = new_parent };

    return client_ask(c, FUSE_RENAME, parent, &in, sizeof(in), name, new_name);
}

/* With flags of renameat2(). */
static inline int client_rename2(struct client *c, uint64_t parent, const char *name,
                                 uint64_t new_parent, const char *new_name, uint32_t flags)
{
    const struct fuse_rename2_in in = { .newdir = new_parent, .flags = flags };

    return client_ask(c, FUSE_RENAME2, parent, &in, sizeof(in), name, new_name);
}

static inline int client_setattr(struct client *c, uint64_t node, struct fuse_setattr_in in)
{
    return client_ask(c, FUSE_SETATTR, node, &in, sizeof(in), NULL, NULL);
}

static inline int client_write(struct client *c, uint64_t node, uint64_t handle, uint64_t offset,
                               const char *text)
{
    const struct fuse_write_in in = { .fh = handle,
                                      .offset = offset,
                                      .size = (uint32_t)strlen(text) };

    client_begin(c, FUSE_WRITE, node);
    client_add(c, &in, sizeof(in));
    client_add(c, text, strlen(text));
    return client_send(c);
}

#endif
