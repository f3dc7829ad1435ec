/* SPDX-License-Identifier: MIT */

/* The virtio-fs device: configuration space, queues, state; and the ids of slots.c. */
#include "devices/virtio/fs.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/virtio_fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "devices/fs/slots.h"
#include "tests/unit/dead_mount.h"
#include "tests/unit/driver.h"
#include "tests/unit/fuse_client.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/clock.h"
#include "vmm/core/endian.h"
#include "vmm/core/state.h"

enum { HIGH_PRIORITY, REQUESTS };
enum { N = DRIVER_NEXT, W = DRIVER_WRITE };

#define REQUEST DRIVER_BUFFERS
#define REPLY   (DRIVER_BUFFERS + 0x10000)

static struct driver d;
static struct share_budget budget;

static struct virtio_device *create_with(const struct share_options *options)
{
    struct virtio_device *device;
    struct share *share;

    ck_assert_int_eq(budget_init(&budget, 1u << 30, 2), 0);
    ck_assert_int_eq(share_open(&share, options, &budget, d.loop), 0);
    ck_assert_int_eq(virtio_fs_create(&device, "fs0", "a tag", share, d.mem, d.loop), 0);
    return device;
}

static struct virtio_device *create(const char *path)
{
    return create_with(&(struct share_options){ .path = path });
}

static void setup(void)
{
    driver_init(&d);
    ck_assert(driver_start(&d, create("/usr"), 0));
}

static void teardown(void)
{
    driver_finish(&d);
}

static void put_request(uint32_t opcode, uint64_t node, const char *name)
{
    size_t size = sizeof(struct fuse_in_header) + (name ? strlen(name) + 1 : 0);
    const struct fuse_in_header header = { .len = (uint32_t)size,
                                           .opcode = opcode,
                                           .nodeid = node };

    memcpy(driver_ram(&d, REQUEST), &header, sizeof(header));
    if (name)
        strcpy(driver_ram(&d, REQUEST + sizeof(header)), name);
}

/* Sends a request with both sides in pieces of `piece` bytes; returns the bytes written. */
static uint32_t send_request(unsigned queue, uint32_t size, uint32_t room, uint32_t piece)
{
    unsigned count = 0;
    uint32_t written;

    for (uint32_t done = 0; done < size; done += piece, count++)
        driver_describe(&d, queue, count, REQUEST + done, size - done < piece ? size - done : piece,
                        N, (uint16_t)(count + 1));
    for (uint32_t done = 0; done < room; done += piece, count++)
        driver_describe(&d, queue, count, REPLY + done, room - done < piece ? room - done : piece,
                        done + piece < room ? N | W : W, (uint16_t)(count + 1));
    driver_publish(&d, queue, 0);
    driver_kick(&d, queue);
    ck_assert(driver_wait(&d, queue, NULL, &written));
    return written;
}

START_TEST(configuration_space)
{
    uint8_t bytes[VIRTIO_MAX_CONFIG];
    struct virtio_fs_config config;

    virtio_read_config(d.device, bytes);
    memcpy(&config, bytes, sizeof(config));
    ck_assert_str_eq((const char *)config.tag, "a tag");
    ck_assert_uint_eq(le32toh(config.num_request_queues), 1);
}
END_TEST

START_TEST(any_framing_is_accepted)
{
    const uint32_t pieces[] = { 4096, 7, 16, 40, 17 };
    const struct fuse_out_header *out = driver_ram(&d, REPLY);

    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
        put_request(FUSE_LOOKUP, FUSE_ROOT_ID, "bin");
        ck_assert_uint_eq(send_request(REQUESTS, 44, 16 + sizeof(struct fuse_entry_out), pieces[i]),
                          16 + sizeof(struct fuse_entry_out));
        ck_assert_int_eq(out->error, 0);
    }
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(malformed_requests_get_no_reply)
{
    put_request(FUSE_LOOKUP, FUSE_ROOT_ID, "bin");
    ck_assert_uint_eq(send_request(REQUESTS, 44, 0, 64), 0);   /* no room for a reply */
    ck_assert_uint_eq(send_request(REQUESTS, 44, 15, 64), 0);  /* too little room for a reply */
    ck_assert_uint_eq(send_request(REQUESTS, 39, 100, 64), 0); /* half a header */
    ck_assert_uint_eq(send_request(REQUESTS, 0, 100, 64), 0);
    ck_assert_uint_eq(send_request(REQUESTS, 43, 200, 64), 16);
    ck_assert(!driver_broken(&d));
}
END_TEST

START_TEST(forget_on_the_high_priority_queue)
{
    put_request(FUSE_FORGET, 12345, "1234567");
    ck_assert_uint_eq(send_request(HIGH_PRIORITY, 48, 0, 64), 0);
    ck_assert(!driver_broken(&d));
}
END_TEST

/* A reset invalidates all nodes and handles. */
START_TEST(a_reset_drops_nodes_and_handles)
{
    const struct fuse_out_header *out = driver_ram(&d, REPLY);
    uint64_t node;

    put_request(FUSE_LOOKUP, FUSE_ROOT_ID, "bin");
    send_request(REQUESTS, 44, 200, 256);
    memcpy(&node, driver_ram(&d, REPLY + sizeof(*out)), sizeof(node));
    ck_assert_uint_ne(node, 0);
    virtio_reset(d.device);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&d, d.device, 0));
    put_request(FUSE_GETATTR, node, "123456789012345");
    send_request(REQUESTS, 56, 200, 256);
    ck_assert_int_eq(out->error, -ESTALE);
}
END_TEST

START_TEST(a_flood_yields_the_loop)
{
    put_request(FUSE_STATFS, FUSE_ROOT_ID, NULL);
    driver_describe(&d, REQUESTS, 0, REQUEST, 40, N, 1);
    driver_describe(&d, REQUESTS, 1, REPLY, 200, W, 0);
    for (unsigned i = 0; i < d.queue_size; i++)
        driver_publish(&d, REQUESTS, 0);
    driver_kick(&d, REQUESTS);
    for (unsigned i = 0; i < d.queue_size; i++)
        ck_assert(driver_wait(&d, REQUESTS, NULL, NULL));
}
END_TEST

/* create() takes ownership of its back-end on success only. */
START_TEST(the_caller_keeps_the_share_if_create_fails)
{
    const struct share_options options = { .path = "/usr" };
    struct virtio_device *device;
    struct rlimit limit, none;
    struct share *share;
    struct statx attr;

    ck_assert_int_eq(share_open(&share, &options, &budget, d.loop), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){ 0, limit.rlim_max };
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ck_assert_int_eq(virtio_fs_create(&device, "fs1", "tag", share, d.mem, d.loop), -EMFILE);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(share_getattr(share, FUSE_ROOT_ID, &attr), 0);
    share_close(share);
}
END_TEST

static uint64_t soon(void)
{
    return clock_now_ns() + 50 * 1000000u;
}

static uint64_t in_time(void)
{
    return clock_now_ns() + 30 * 1000000000ull;
}

static void walk(struct virtio_device *device, struct state *s)
{
    state_section(s, "fs0", 1);
    virtio_state(device, s);
    state_end_section(s);
    ck_assert_int_eq(s->error, 0);
}

/* The driver continues with another device that has loaded the first one's state. */
START_TEST(saved_and_loaded)
{
    const struct fuse_out_header *out = driver_ram(&d, REPLY);
    struct virtio_device *first = d.device, *second;
    struct state saved, s;
    uint64_t node, again;

    put_request(FUSE_LOOKUP, FUSE_ROOT_ID, "bin");
    send_request(REQUESTS, 44, 200, 256);
    memcpy(&node, driver_ram(&d, REPLY + sizeof(*out)), sizeof(node));
    ck_assert_int_eq(virtio_pause(first, soon()), 0);
    state_begin_save(&saved);
    walk(first, &saved);

    second = create("/usr");
    driver_find(&d, second);
    ck_assert_int_eq(virtio_pause(second, soon()), 0);
    state_begin_load(&s, saved.bytes, saved.at);
    walk(second, &s);
    ck_assert_int_eq(state_finish(&s), 0);
    state_finish(&saved);
    virtio_destroy(first);
    virtio_resume(second);

    put_request(FUSE_GETATTR, node, "123456789012345");
    send_request(REQUESTS, 56, 200, 256);
    ck_assert_int_eq(out->error, 0);
    put_request(FUSE_LOOKUP, FUSE_ROOT_ID, "bin");
    send_request(REQUESTS, 44, 200, 256);
    memcpy(&again, driver_ram(&d, REPLY + sizeof(*out)), sizeof(again));
    ck_assert_uint_eq(again, node);
    ck_assert(!driver_broken(&d));
}
END_TEST

/* A request in a place of its own, so that several can wait. Returns its reply. */
static const struct fuse_out_header *
start_request_of(unsigned number, uint32_t opcode, uint64_t node, const void *body, size_t length)
{
    size_t size = sizeof(struct fuse_in_header) + length;
    const struct fuse_in_header header = { .len = (uint32_t)size,
                                           .opcode = opcode,
                                           .nodeid = node };
    uint64_t request = REQUEST + 0x200 * number, reply = REPLY + 0x200 * number;
    uint16_t at = (uint16_t)(2 * number);

    memcpy(driver_ram(&d, request), &header, sizeof(header));
    memcpy(driver_ram(&d, request + sizeof(header)), body, length);
    memset(driver_ram(&d, reply), 0x55, sizeof(struct fuse_out_header));
    driver_describe(&d, REQUESTS, at, request, (uint32_t)size, N, (uint16_t)(at + 1));
    driver_describe(&d, REQUESTS, at + 1, reply, 200, W, 0);
    driver_publish(&d, REQUESTS, at);
    virtio_kick(d.device, REQUESTS);
    return driver_ram(&d, reply);
}

static const struct fuse_out_header *start_request(unsigned number, uint32_t opcode,
                                                   const char *name)
{
    return start_request_of(number, opcode, FUSE_ROOT_ID, name ? name : "",
                            name ? strlen(name) + 1 : 0);
}

static void check_alive(void)
{
    const struct fuse_out_header *out = start_request(20, FUSE_STATFS, NULL);
    uint32_t head;

    ck_assert(driver_wait(&d, REQUESTS, &head, NULL));
    ck_assert_uint_eq(head, 40);
    ck_assert_int_eq(out->error, 0);
}

/* Replaces the device by one with a thread. */
static void start_with_thread(const struct share_options *options)
{
    virtio_destroy(d.device);
    loop_destroy(d.loop);
    d.loop = loop_create();
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&d, create_with(options), 0));
    ck_assert_int_eq(loop_start(d.loop, "fs"), 0);
}

/* A directory "top" with a dead mount, served by a device with a thread. */
static struct dead_server start_with_dead_mount(char *top)
{
    struct dead_server server;
    char path[64];

    ck_assert_ptr_nonnull(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/dead", top);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    server = dead_mount(path);
    if (server.pid == 0) {
        rmdir(path);
        rmdir(top);
        unit_skip(DEAD_NO_MOUNT);
    }
    start_with_thread(&(struct share_options){ .path = top });
    return server;
}

static void remove_dead_mount(const char *top)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/dead", top);
    umount2(path, MNT_DETACH);
    rmdir(path);
    rmdir(top);
}

/* One request asks it, the others of the kind wait for that one; all else is answered. */
START_TEST(a_dead_mount_holds_up_only_those_who_use_it)
{
    enum { WAITING = 8 };
    const struct fuse_out_header *out[WAITING];
    char top[] = "/tmp/minivmm-fs-XXXXXX";
    struct dead_server server = start_with_dead_mount(top);
    int others;

    for (unsigned i = 0; i < WAITING; i++)
        out[i] = start_request(i, FUSE_LOOKUP, "dead");
    dead_wait(&server); /* the first one waits now */
    for (unsigned i = 0; i < 100; i++)
        check_alive();
    ck_assert_int_eq(ioctl(server.asked, FIONREAD, &others), 0);
    ck_assert_int_eq(others, 0);
    dead_kill(&server);
    for (unsigned i = 0; i < WAITING; i++)
        ck_assert(driver_wait(&d, REQUESTS, NULL, NULL));
    for (unsigned i = 0; i < WAITING; i++)
        ck_assert_int_lt(out[i]->error, 0);
    loop_join(d.loop);
    remove_dead_mount(top);
}
END_TEST

START_TEST(a_dead_mount_does_not_hold_up_a_pause)
{
    char top[] = "/tmp/minivmm-fs-XXXXXX";
    struct dead_server server = start_with_dead_mount(top);
    uint64_t before;

    start_request(0, FUSE_LOOKUP, "dead");
    start_request(1, FUSE_LOOKUP, "dead");
    dead_wait(&server);
    before = clock_now_ns();
    ck_assert_int_eq(virtio_pause(d.device, soon()), -ETIMEDOUT);
    ck_assert_uint_lt(clock_now_ns() - before, 5 * 1000000000ull);
    check_alive(); /* the device continues */
    dead_kill(&server);
    for (unsigned i = 0; i < 2; i++)
        ck_assert(driver_wait(&d, REQUESTS, NULL, NULL));
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(virtio_pause(d.device, in_time()), 0);
        virtio_resume(d.device);
        check_alive();
    }
    loop_join(d.loop);
    remove_dead_mount(top);
}
END_TEST

/* A reset drops what is parked, and waits for what the host has not answered. */
static void *kill_later(void *arg)
{
    usleep(20000);
    dead_kill(arg);
    return NULL;
}

START_TEST(a_reset_waits_for_a_dead_mount)
{
    char top[] = "/tmp/minivmm-fs-XXXXXX";
    struct dead_server server = start_with_dead_mount(top);
    pthread_t thread;

    start_request(0, FUSE_LOOKUP, "dead");
    start_request(1, FUSE_LOOKUP, "dead");
    dead_wait(&server);
    check_alive();
    ck_assert_int_eq(pthread_create(&thread, NULL, kill_later, &server), 0);
    virtio_reset(d.device);
    pthread_join(thread, NULL);
    memset(driver_ram(&d, 0x10000), 0, 0x20000);
    ck_assert(driver_start(&d, d.device, 0));
    check_alive();
    loop_join(d.loop);
    remove_dead_mount(top);
}
END_TEST

/* Pipes: a thread is about to rename something; it may go on. */
static int renaming[2], go_on[2];

/* Replaces libc's. */
long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long arguments[6];
    va_list list;
    char byte = 0;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    va_start(list, number);
    for (unsigned i = 0; i < ARRAY_SIZE(arguments); i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_renameat2 && renaming[1])
        ck_assert(write(renaming[1], &byte, 1) == 1 && read(go_on[0], &byte, 1) == 1);
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}

/* A link that is good in "folder" must not get out of it by the name of what is being renamed. */
START_TEST(a_guarded_share_renames_what_it_has_checked)
{
    const struct fuse_rename_in to_root = { .newdir = FUSE_ROOT_ID };
    char rename[sizeof(to_root) + 4] = { [sizeof(to_root)] = 'x', 0, 'y', 0 };
    char top[] = "/tmp/minivmm-fs-XXXXXX", path[64], byte;
    uint64_t folder;
    uint32_t head;

    ck_assert_ptr_nonnull(mkdtemp(top));
    snprintf(path, sizeof(path), "%s/folder", top);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    ck_assert(pipe(renaming) == 0 && pipe(go_on) == 0);
    start_with_thread(&(struct share_options){ .path = top, .writable = true, .guarded = true });
    start_request(0, FUSE_LOOKUP, "folder");
    ck_assert(driver_wait(&d, REQUESTS, NULL, NULL));
    memcpy(&folder, driver_ram(&d, REPLY + sizeof(struct fuse_out_header)), sizeof(folder));

    memcpy(rename, &to_root, sizeof(to_root));
    start_request_of(1, FUSE_RENAME, folder, rename, sizeof(rename));
    ck_assert_int_eq(read(renaming[0], &byte, 1), 1); /* there was no "x" when it looked */
    start_request_of(2, FUSE_SYMLINK, folder, "x\0../x", 7);
    start_request(3, FUSE_STATFS, NULL);
    do /* the link is made, or its request waits */
        ck_assert(driver_wait(&d, REQUESTS, &head, NULL));
    while (head != 2 * 3);
    ck_assert_int_eq(write(go_on[1], &byte, 1), 1);
    loop_join(d.loop);

    snprintf(path, sizeof(path), "%s/y", top);
    ck_assert_int_lt(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/folder/x", top);
    ck_assert_int_eq(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/folder", top);
    rmdir(path);
    rmdir(top);
}
END_TEST

START_TEST(ids_of_slots)
{
    int things[4];
    struct slots slots;
    uint64_t ids[3];
    uint32_t place = 0;

    slots_init(&slots, 3);
    for (unsigned i = 0; i < 3; i++)
        ids[i] = slots_add(&slots, &things[i]);
    ck_assert_uint_eq(ids[0], 1);
    ck_assert_uint_eq(slots_add(&slots, &things[3]), 0);
    slots_remove(&slots, ids[1]);
    ck_assert_ptr_null(slots_find(&slots, ids[1]));
    ck_assert_ptr_null(slots_find(&slots, ids[1] + (1ull << 32))); /* the next id of a free slot */
    ids[1] = slots_add(&slots, &things[3]);
    ck_assert_ptr_eq(slots_find(&slots, ids[1]), &things[3]);
    ck_assert_ptr_null(slots_find(&slots, (uint32_t)ids[1])); /* its first id */
    ck_assert_ptr_eq(slots_next(&slots, &place), &things[0]);
    ck_assert_ptr_eq(slots_next(&slots, &place), &things[3]);
    ck_assert_ptr_eq(slots_next(&slots, &place), &things[2]);
    ck_assert_ptr_null(slots_next(&slots, &place));
    slots_finish(&slots);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fs_device");
    TCase *tcase = tcase_create("fs_device");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, configuration_space);
    tcase_add_test(tcase, any_framing_is_accepted);
    tcase_add_test(tcase, malformed_requests_get_no_reply);
    tcase_add_test(tcase, forget_on_the_high_priority_queue);
    tcase_add_test(tcase, a_reset_drops_nodes_and_handles);
    tcase_add_test(tcase, a_flood_yields_the_loop);
    tcase_add_test(tcase, the_caller_keeps_the_share_if_create_fails);
    tcase_add_test(tcase, saved_and_loaded);
    tcase_add_test(tcase, a_dead_mount_holds_up_only_those_who_use_it);
    tcase_add_test(tcase, a_dead_mount_does_not_hold_up_a_pause);
    tcase_add_test(tcase, a_reset_waits_for_a_dead_mount);
    tcase_add_test(tcase, a_guarded_share_renames_what_it_has_checked);
    tcase_add_test(tcase, ids_of_slots);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
